//! Tracks: the workload of a race.

mod files;
mod source;
mod template;

pub use files::{MemoryFiles, TrackDirectory, TrackFiles};
pub use source::Location;
pub use template::{JsonError, Limits, TemplateError};
