//! The program as its users run it: real processes, each test with homes of its own.

#![expect(clippy::unwrap_used, reason = "the helpers belong to the tests")]
#![expect(clippy::print_stdout, reason = "a test says on which network it ran and what it checked")]

mod archive;
mod cluster;
mod counting_target;
mod daemon;
mod joining;
mod lab;
mod network;
mod places;
mod places_faults;
mod programs;
mod race;
mod race_alone;
mod race_endings;
mod race_faults;
mod race_lab;
mod race_ledger;
mod race_server;
mod relay;
