//! Tracks on the command line: where they come from, and the commands that look at them.

mod command;
mod git;
mod info;
mod repository;
mod values;
mod version;

pub use command::{
    InfoArgs, ListArgs, RenderArgs, TemplateArgs, TrackCommand, TrackCommandError, TrackSelection, TrackSettings,
    TrackSource, ValidateArgs, run,
};
pub(crate) use command::{RaceSelection, load_for_race};
pub use git::GitError;
pub use repository::{RepositoryError, Revision, TrackRepository};
pub use values::{ParseValueError, parse_list, parse_map};
pub use version::best_match;
