//! The engine: threads that each run the clients of their share, and the race that holds them together.

mod accounts;
mod alarm;
mod client_loop;
mod clock_cost;
mod error;
mod health;
mod length;
mod pace;
mod race;
mod roster;
mod step;
mod worker;

pub(crate) use error::Panicked;
pub(crate) use health::LATE;
pub(crate) use race::{Command, InvalidStep, Race, RaceSetup};
