//! Interprets a track's schedule and applies the load.
//!
//! A [`Runner`] executes one operation, a [`ParamSource`] says with which parameters, and a [`Scheduler`] says when. The
//! [`Registry`] knows them by name: those of Rally are there from the start, and a program adds its own.
//!
//! # What this crate leaves out
//!
//! It does not know who asked for the load nor what becomes of the samples.

pub mod client;
mod clock_timer;
mod corpus;
mod driver;
mod engine;
mod error;
mod events;
mod memory_content;
mod operation;
mod param_source;
mod parameters;
mod readiness;
mod recorder;
mod registry;
mod runner;
mod scheduler;
mod segment;
mod source;
mod task_run;
mod telemetry;
#[cfg(test)]
mod testing;
mod timer;

pub use clock_timer::ClockTimer;
pub use corpus::CorpusError;
pub use driver::{ContentSource, CoordinatorClock, DocumentsHere, DriverOptions, LocalLoadDriver, Means, local_clock};
pub use error::{ErrorClass, RunnerError};
pub use memory_content::MemoryContent;
pub use operation::CompositeContext;
pub use param_source::{ParamSource, ParamSourceSetup, Params, Partition};
pub use registry::Registry;
pub use runner::{InnerTiming, Outcome, Runner, RunnerSetup};
pub use scheduler::{Scheduler, SchedulerSetup};
pub use task_run::{TaskReport, TaskRun, TaskRunError};
pub use telemetry::{TelemetryDevice, check_telemetry, telemetry_devices};
pub use timer::{RequestTimer, Span};
