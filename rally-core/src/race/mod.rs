//! Races: what all roles need to know of one.

mod plan;

pub use plan::{OnError, RacePlan};
