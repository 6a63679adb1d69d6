//! What plugins bring to a track, and what a track needs of them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::model::{Challenge, OperationType, Track};

/// Parameter sources that can be named, apart from those that belong to a type.
const PARAM_SOURCES: [&str; 1] = ["file-reader"];

/// Schedulers that Rally brings.
const SCHEDULERS: [&str; 2] = ["deterministic", "poisson"];

/// Changes a track once it is loaded, before it is used.
pub trait TrackProcessor: Send + Sync {
    /// Changes the track.
    ///
    /// # Errors
    ///
    /// Whatever makes the track unusable. The race does not start then.
    fn on_after_load_track(&self, track: &mut Track) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// A processor refused the track.
#[derive(Debug, thiserror::Error)]
#[error("a processor refused track `{track}`")]
pub struct ProcessTrackError {
    /// The track.
    pub track: String,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

/// The names that plugins of any kind bring, and their track processors.
///
/// The load driver keeps what stands behind the names; the registry tells whether a track can be run at all.
#[derive(Clone, Default)]
pub struct TrackRegistry {
    runners: BTreeSet<String>,
    param_sources: BTreeSet<String>,
    schedulers: BTreeSet<String>,
    processors: Vec<Arc<dyn TrackProcessor>>,
}

impl fmt::Debug for TrackRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackRegistry")
            .field("runners", &self.runners)
            .field("param_sources", &self.param_sources)
            .field("schedulers", &self.schedulers)
            .field("processors", &self.processors.len())
            .finish()
    }
}

impl TrackRegistry {
    /// A registry with nothing but what Rally brings itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// There is a runner for operations of this type. It takes the place of a built-in one of the same name.
    pub fn register_runner(&mut self, operation_type: &str) -> &mut Self {
        self.runners.insert(operation_type.to_owned());
        self
    }

    /// There is a parameter source of this name.
    pub fn register_param_source(&mut self, name: &str) -> &mut Self {
        self.param_sources.insert(name.to_owned());
        self
    }

    /// There is a scheduler of this name.
    pub fn register_scheduler(&mut self, name: &str) -> &mut Self {
        self.schedulers.insert(name.to_owned());
        self
    }

    /// Adds a processor. Processors work in the order in which they were added.
    pub fn register_track_processor(&mut self, processor: Arc<dyn TrackProcessor>) -> &mut Self {
        self.processors.push(processor);
        self
    }

    /// Lets all processors change the track.
    ///
    /// # Errors
    ///
    /// [`ProcessTrackError`] with what the first processor that fails says.
    pub fn process(&self, track: &mut Track) -> Result<(), ProcessTrackError> {
        self.processors.iter().try_for_each(|processor| {
            processor
                .on_after_load_track(track)
                .map_err(|source| ProcessTrackError { track: track.name.clone(), source })
        })
    }

    /// What the tasks of a challenge need that neither Rally nor this registry has.
    #[must_use]
    pub fn missing(&self, challenge: &Challenge) -> PluginNeeds {
        let mut needs = PluginNeeds::default();
        for task in challenge.tasks() {
            let mut types = vec![&task.operation.operation_type];
            let inner: Vec<OperationType> = inner_types(task.operation.params.get("requests"));
            types.extend(&inner);
            for operation_type in types {
                if !operation_type.is_built_in() && !self.runners.contains(operation_type.as_str()) {
                    add(&mut needs.runners, operation_type.as_str(), &task.name);
                }
            }
            if let Some(source) = &task.operation.param_source
                && !PARAM_SOURCES.contains(&source.as_str())
                && !OperationType::from(source.as_str()).is_built_in()
                && !self.param_sources.contains(source)
            {
                add(&mut needs.param_sources, source, &task.name);
            }
            if let Some(scheduler) = &task.schedule
                && !SCHEDULERS.contains(&scheduler.as_str())
                && !self.schedulers.contains(scheduler)
            {
                add(&mut needs.schedulers, scheduler, &task.name);
            }
        }
        needs
    }
}

fn add(needs: &mut BTreeMap<String, Vec<String>>, name: &str, task: &str) {
    let tasks = needs.entry(name.to_owned()).or_default();
    if tasks.last().is_none_or(|last| last != task) {
        tasks.push(task.to_owned());
    }
}

/// The operation types within a `composite` operation.
fn inner_types(requests: Option<&Value>) -> Vec<OperationType> {
    let mut types = Vec::new();
    for request in requests.and_then(Value::as_array).into_iter().flatten() {
        types.extend(request.get("operation-type").and_then(Value::as_str).map(OperationType::from));
        types.extend(inner_types(request.get("stream")));
    }
    types
}

/// What a challenge needs from plugins: names, each with the tasks that use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginNeeds {
    /// Operation types without a runner.
    pub runners: BTreeMap<String, Vec<String>>,
    /// Parameter sources.
    pub param_sources: BTreeMap<String, Vec<String>>,
    /// Schedulers.
    pub schedulers: BTreeMap<String, Vec<String>>,
}

impl PluginNeeds {
    /// Whether no plugin is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runners.is_empty() && self.param_sources.is_empty() && self.schedulers.is_empty()
    }

    /// Whether this task needs a plugin.
    #[must_use]
    pub fn concerns(&self, task: &str) -> bool {
        [&self.runners, &self.param_sources, &self.schedulers]
            .into_iter()
            .flat_map(BTreeMap::values)
            .any(|tasks| tasks.iter().any(|name| name == task))
    }
}

impl fmt::Display for PluginNeeds {
    /// One line for each name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("operation type", &self.runners),
            ("parameter source", &self.param_sources),
            ("scheduler", &self.schedulers),
        ];
        let lines =
            kinds.into_iter().flat_map(|(kind, names)| names.iter().map(move |(name, tasks)| (kind, name, tasks)));
        for (index, (kind, name, tasks)) in lines.enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{kind} `{name}` ({})", tasks.join(", "))?;
        }
        Ok(())
    }
}
