//! Tracks: the workload of a race.

mod builder;
mod dump;
mod fault;
mod files;
mod filter;
mod load;
mod model;
mod parameters;
mod reader;
mod registry;
mod serverless;
mod source;
mod template;
mod test_mode;
mod write;

pub use builder::{
    ChallengeBuilder, CorpusBuilder, DocumentsBuilder, OperationBuilder, ParallelBuilder, TaskBuilder, TrackBuilder,
};
pub use fault::Fault;
pub use files::{MemoryFiles, TrackDirectory, TrackFiles};
pub use filter::{ParseTaskFilterError, TaskSelection};
pub use load::{LoadOptions, LoadStage, LoadTrackError, LoadWarning, LoadedTrack, load_track, render_track};
pub use model::{
    Challenge, ComponentTemplate, Corpus, DataStream, Documents, Index, IndexTemplate, JsonObject, Operation,
    OperationType, Parallel, ParseThroughputError, ScheduleElement, ServerlessStatus, SourceFormat, TargetThroughput,
    Task, Track,
};
pub use parameters::ParameterFault;
pub use registry::{PluginNeeds, ProcessTrackError, TrackProcessor, TrackRegistry};
pub use source::Location;
pub use template::{JsonError, Limits, TemplateError};
