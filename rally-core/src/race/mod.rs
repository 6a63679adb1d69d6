//! Races: what all roles need to know of one, and how it goes from the preparation of its drivers to the verdict.

mod log;
mod machine;
mod plan;
mod progress;
mod run;
mod verdict;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use log::RaceLog;
pub use machine::{DriverIndex, OnDriverLoss, Race, RaceAction, RaceInput, RaceTiming};
pub use plan::{DataSource, OnError, RaceDescription, RacePlan, RacePlanError, ShippedFile, ShippedPart, ShippingHost};
pub use run::{RaceSetup, Recorder, Timer};
pub use verdict::{RaceLedger, RaceVerdict, Shortfall, Untold};
