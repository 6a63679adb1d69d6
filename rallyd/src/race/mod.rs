//! Races of this host: who owns them, how they are planned, and what is seen of them.

mod arguments;
mod cluster;
mod control;
mod coordinator;
mod gentle_source;
mod host;
mod local;
mod pipeline;
mod plan;
mod sample_files;
mod sharing;
mod shipping;
mod text;
mod thresholds;
mod turn;
mod view;

#[cfg(test)]
mod tests;

pub use arguments::{PlanFormat, RaceArguments};
pub(crate) use cluster::{RaceKeeping, find_host};
pub use control::ControlCoordinator;
pub(crate) use control::some_events;
pub(crate) use coordinator::{NO_BUNDLE, random_id};
pub use coordinator::{RaceCoordinator, Surroundings};
pub use host::RaceHost;
pub use local::LocalSurroundings;
pub(crate) use local::is_this_host;
pub use pipeline::{PIPELINES, Pipeline};
pub use plan::{PlanError, PlannedRace, plan_race};
pub use sample_files::FetchPace;
pub(crate) use sample_files::{SampleFile, SampleFiles};
pub(crate) use text::{plan_json, plan_text, status_text, verdict_text};
pub(crate) use turn::{Turn, TurnError};
pub(crate) use view::{Interrupts, watch_with};
pub use view::{View, watch};

use std::sync::Arc;

use rally_driver::Registry;

/// The runners, parameter sources and schedulers of this program.
pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(Registry::rally())
}
