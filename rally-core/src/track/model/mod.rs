//! The object model of a track.

mod challenge;
mod corpus;
mod index;
mod operation;
mod operation_type;
mod task;

use serde::{Deserialize, Serialize};

pub use challenge::{Challenge, Parallel, ScheduleElement};
pub use corpus::{Corpus, Documents, SourceFormat};
pub use index::{ComponentTemplate, DataStream, Index, IndexTemplate};
pub use operation::Operation;
pub use operation_type::{OperationType, ServerlessStatus};
pub use task::{ParseThroughputError, TargetThroughput, Task};

/// A JSON object with its keys in order.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// A workload: what is indexed, and which operations are run in which challenges.
///
/// A track comes from files ([`load_track`](crate::track::load_track)) or from code ([`TrackBuilder`]); both are checked
/// by the same rules. It is serialized as JSON: being made of JSON in many places, it has no form in formats that do not
/// describe themselves, such as postcard.
///
/// [`TrackBuilder`]: crate::track::TrackBuilder
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Track {
    /// The name, such as `geonames`.
    pub name: String,
    /// What the track is about, for readers. Empty if it does not say.
    pub description: String,
    /// Added to the metadata of everything that is measured.
    pub meta: JsonObject,
    /// Python packages that the plugins of the track want, as pip calls them.
    pub dependencies: Vec<String>,
    /// Indices. Never together with data streams.
    pub indices: Vec<Index>,
    /// Data streams. Never together with indices.
    pub data_streams: Vec<DataStream>,
    /// Index templates of the old kind.
    pub templates: Vec<IndexTemplate>,
    /// Composable index templates.
    pub composable_templates: Vec<IndexTemplate>,
    /// Component templates.
    pub component_templates: Vec<ComponentTemplate>,
    /// What is indexed.
    pub corpora: Vec<Corpus>,
    /// The schedules, at least one. Exactly one of them is the default.
    pub challenges: Vec<Challenge>,
    /// Whether the track brings a Python plugin, `track.py`.
    pub has_python_plugin: bool,
}

impl Track {
    /// Finds a challenge by its name.
    #[must_use]
    pub fn challenge(&self, name: &str) -> Option<&Challenge> {
        self.challenges.iter().find(|challenge| challenge.name == name)
    }

    /// The challenge that is run unless another one is asked for.
    #[must_use]
    pub fn default_challenge(&self) -> Option<&Challenge> {
        self.challenges.iter().find(|challenge| challenge.default)
    }

    /// The challenge that was asked for when the track was loaded, or the only one there is.
    #[must_use]
    pub fn selected_challenge(&self) -> Option<&Challenge> {
        self.challenges.iter().find(|challenge| challenge.selected)
    }

    /// The challenge to run: the selected one, else the default.
    #[must_use]
    pub fn selected_challenge_or_default(&self) -> Option<&Challenge> {
        self.selected_challenge().or_else(|| self.default_challenge())
    }

    /// Finds a corpus by its name.
    #[must_use]
    pub fn corpus(&self, name: &str) -> Option<&Corpus> {
        self.corpora.iter().find(|corpus| corpus.name == name)
    }

    /// Documents in all corpora.
    #[must_use]
    pub fn number_of_documents(&self) -> u64 {
        self.corpora.iter().map(Corpus::number_of_documents).sum()
    }

    /// Size of all corpora as they are downloaded, in bytes. None as soon as one part is unknown.
    #[must_use]
    pub fn compressed_size_in_bytes(&self) -> Option<u64> {
        self.corpora.iter().map(Corpus::compressed_size_in_bytes).sum()
    }

    /// Size of all corpora as they are read, in bytes. None as soon as one part is unknown.
    #[must_use]
    pub fn uncompressed_size_in_bytes(&self) -> Option<u64> {
        self.corpora.iter().map(Corpus::uncompressed_size_in_bytes).sum()
    }
}
