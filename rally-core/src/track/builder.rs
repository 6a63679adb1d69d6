//! Tracks made in code.
//!
//! Builders write what a track file would say, and [`TrackBuilder::build`] reads it as if it came from a file: the rules
//! are the same, and so are the errors.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::files::MemoryFiles;
use super::load::{LoadOptions, LoadTrackError, load_track};
use super::model::{Challenge, Corpus, Documents, JsonObject, Operation, Task, Track};
use super::write::template_text;

macro_rules! property {
    () => {
        /// Sets any property of the file format by its name there. Setting it again replaces it.
        #[must_use]
        pub fn property(mut self, key: &str, value: impl Into<Value>) -> Self {
            self.0.insert(key.to_owned(), value.into());
            self
        }
    };
}

/// Makes a track: [`Track::builder`].
#[derive(Clone, Debug)]
pub struct TrackBuilder {
    name: String,
    track: JsonObject,
    files: MemoryFiles,
}

impl Track {
    /// Begins a track without anything in it.
    #[must_use]
    pub fn builder(name: &str) -> TrackBuilder {
        TrackBuilder { name: name.to_owned(), track: JsonObject::new(), files: MemoryFiles::new() }
    }
}

impl TrackBuilder {
    /// Sets any property of the file format by its name there. Setting it again replaces it.
    #[must_use]
    pub fn property(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.track.insert(key.to_owned(), value.into());
        self
    }

    /// Says what the track is about. The default is nothing.
    #[must_use]
    pub fn description(self, text: &str) -> Self {
        self.property("description", text)
    }

    /// Adds an index with its settings and mappings.
    #[must_use]
    pub fn index(self, name: &str, body: Value) -> Self {
        let (builder, file) = self.file("index", &body);
        builder.add("indices", json!({"name": name, "body": file}))
    }

    /// Adds a data stream.
    #[must_use]
    pub fn data_stream(self, name: &str) -> Self {
        self.add("data-streams", json!({"name": name}))
    }

    /// Adds a composable index template.
    #[must_use]
    pub fn composable_template(self, name: &str, pattern: &str, content: Value) -> Self {
        let (builder, file) = self.file("template", &content);
        builder.add("composable-templates", json!({"name": name, "index-pattern": pattern, "template": file}))
    }

    /// Adds a component template.
    #[must_use]
    pub fn component_template(self, name: &str, content: Value) -> Self {
        let (builder, file) = self.file("component-template", &content);
        builder.add("component-templates", json!({"name": name, "template": file}))
    }

    /// Adds a corpus.
    #[must_use]
    pub fn corpus(self, corpus: CorpusBuilder) -> Self {
        self.add("corpora", corpus.0.into())
    }

    /// Adds a challenge. A track with several needs one that is the [default](ChallengeBuilder::default_challenge).
    #[must_use]
    pub fn challenge(self, challenge: ChallengeBuilder) -> Self {
        self.add("challenges", challenge.0.into())
    }

    /// Makes the track.
    ///
    /// # Errors
    ///
    /// [`LoadTrackError::Invalid`] says everything that is wrong with it.
    pub fn build(mut self) -> Result<Track, LoadTrackError> {
        self.files.insert("track.json", template_text(&self.track.into()));
        let options = LoadOptions { name: self.name, ..LoadOptions::default() };
        Ok(load_track(Arc::new(self.files), &options)?.track)
    }

    fn file(mut self, kind: &str, content: &Value) -> (Self, String) {
        let name = format!("{kind}-{}.json", self.files.iter().count());
        self.files.insert(&name, template_text(content));
        (self, name)
    }

    fn add(mut self, key: &str, element: Value) -> Self {
        push(&mut self.track, key, element);
        self
    }
}

/// Appends to a list, which is created first if it has to be.
fn push(object: &mut JsonObject, key: &str, element: Value) {
    // If someone set the property to something else, this is reported when the track is built.
    if let Value::Array(elements) = object.entry(key).or_insert_with(|| json!([])) {
        elements.push(element);
    }
}

/// Makes a corpus: [`Corpus::builder`].
#[derive(Clone, Debug)]
pub struct CorpusBuilder(JsonObject);

impl Corpus {
    /// Begins a corpus without documents.
    #[must_use]
    pub fn builder(name: &str) -> CorpusBuilder {
        CorpusBuilder(JsonObject::from_iter([("name".to_owned(), name.into())]))
    }
}

impl CorpusBuilder {
    property!();

    /// Adds a file of documents.
    #[must_use]
    pub fn documents(mut self, documents: DocumentsBuilder) -> Self {
        push(&mut self.0, "documents", documents.0.into());
        self
    }
}

/// Makes a document set: [`Documents::builder`].
#[derive(Clone, Debug)]
pub struct DocumentsBuilder(JsonObject);

impl Documents {
    /// Begins a document set: the file or archive, and the number of documents in it.
    #[must_use]
    pub fn builder(source_file: &str, number_of_documents: u64) -> DocumentsBuilder {
        DocumentsBuilder(JsonObject::from_iter([
            ("source-file".to_owned(), source_file.into()),
            ("document-count".to_owned(), number_of_documents.into()),
        ]))
    }
}

impl DocumentsBuilder {
    property!();

    /// Where the file can be downloaded from. By default it must be there.
    #[must_use]
    pub fn base_url(self, url: &str) -> Self {
        self.property("base-url", url)
    }

    /// The index that the documents go to. The default is the only index of the track.
    #[must_use]
    pub fn target_index(self, index: &str) -> Self {
        self.property("target-index", index)
    }

    /// The data stream that the documents go to. The default is the only data stream of the track.
    #[must_use]
    pub fn target_data_stream(self, data_stream: &str) -> Self {
        self.property("target-data-stream", data_stream)
    }

    /// The documents have action lines before them, which say where they go. By default they have none.
    #[must_use]
    pub fn includes_action_and_meta_data(self) -> Self {
        self.property("includes-action-and-meta-data", true)
    }
}

/// Makes a challenge: [`Challenge::builder`].
#[derive(Clone, Debug)]
pub struct ChallengeBuilder(JsonObject);

impl Challenge {
    /// Begins a challenge with an empty schedule.
    #[must_use]
    pub fn builder(name: &str) -> ChallengeBuilder {
        ChallengeBuilder(JsonObject::from_iter([("name".to_owned(), name.into())]))
    }
}

impl ChallengeBuilder {
    property!();

    /// Makes this the default among several challenges. A single one always is.
    #[must_use]
    pub fn default_challenge(self) -> Self {
        self.property("default", true)
    }

    /// Appends a task to the schedule.
    #[must_use]
    pub fn task(mut self, task: TaskBuilder) -> Self {
        push(&mut self.0, "schedule", task.0.into());
        self
    }

    /// Appends tasks that run at the same time.
    #[must_use]
    pub fn parallel(mut self, parallel: ParallelBuilder) -> Self {
        push(&mut self.0, "schedule", json!({"parallel": parallel.0}));
        self
    }
}

/// Makes an element of tasks that run at the same time.
#[derive(Clone, Debug, Default)]
pub struct ParallelBuilder(JsonObject);

impl ParallelBuilder {
    /// Begins an element without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    property!();

    /// Adds a task.
    #[must_use]
    pub fn task(mut self, task: TaskBuilder) -> Self {
        push(&mut self.0, "tasks", task.0.into());
        self
    }

    /// The element ends with this task, or with whichever ends first if it is `any`. By default it ends with the last.
    #[must_use]
    pub fn completed_by(self, task: &str) -> Self {
        self.property("completed-by", task)
    }
}

/// Makes a task: [`Task::builder`].
#[derive(Clone, Debug)]
pub struct TaskBuilder(JsonObject);

impl Task {
    /// Begins a task with one client that runs the operation once.
    #[must_use]
    pub fn builder(operation: OperationBuilder) -> TaskBuilder {
        TaskBuilder(JsonObject::from_iter([("operation".to_owned(), operation.0.into())]))
    }
}

impl TaskBuilder {
    property!();

    /// The name. The default is that of the operation.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.property("name", name)
    }

    /// Clients that run the task at the same time. The default is 1.
    #[must_use]
    pub fn clients(self, clients: u32) -> Self {
        self.property("clients", clients)
    }

    /// Executions per client. By default the operation decides, or it is run once.
    #[must_use]
    pub fn iterations(self, iterations: u64) -> Self {
        self.property("iterations", iterations)
    }

    /// Executions per client before that, whose results do not count. None by default.
    #[must_use]
    pub fn warmup_iterations(self, iterations: u64) -> Self {
        self.property("warmup-iterations", iterations)
    }

    /// How long the task is run, in whole seconds.
    #[must_use]
    pub fn time_period(self, period: Duration) -> Self {
        self.property("time-period", seconds(period))
    }

    /// Time before that whose results do not count, in whole seconds. None by default.
    #[must_use]
    pub fn warmup_time_period(self, period: Duration) -> Self {
        self.property("warmup-time-period", seconds(period))
    }

    /// Operations per second by all clients together. By default it is as fast as possible.
    #[must_use]
    pub fn target_throughput(self, per_second: f64) -> Self {
        self.property("target-throughput", per_second)
    }

    /// Adds a tag to filter by.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        push(&mut self.0, "tags", tag.into());
        self
    }
}

/// Fractions stay in, and are refused like those in a file.
fn seconds(period: Duration) -> Value {
    if period.subsec_nanos() == 0 { period.as_secs().into() } else { period.as_secs_f64().into() }
}

/// Makes an operation: [`Operation::builder`].
#[derive(Clone, Debug)]
pub struct OperationBuilder(JsonObject);

impl Operation {
    /// Begins an operation of a type, such as `bulk`, which it is also named after.
    #[must_use]
    pub fn builder(operation_type: &str) -> OperationBuilder {
        OperationBuilder(JsonObject::from_iter([("operation-type".to_owned(), operation_type.into())]))
    }
}

impl OperationBuilder {
    property!();

    /// The name. The default is the type.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.property("name", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_makes_a_track_in_a_few_lines() {
        let track = Track::builder("mine")
            .index("logs", json!({"settings": {"index.number_of_shards": 1}, "note": "{{ not a template }} {{{%"}))
            .corpus(Corpus::builder("c").documents(Documents::builder("docs.json.zst", 1_000)))
            .challenge(
                Challenge::builder("index")
                    .task(Task::builder(Operation::builder("bulk").property("bulk-size", 100)).clients(4))
                    .task(Task::builder(Operation::builder("search")).name("match-all").iterations(10)),
            )
            .build()
            .unwrap();
        let challenge = track.selected_challenge_or_default().unwrap();
        let tasks: Vec<_> = challenge.tasks().map(|task| (task.name.as_str(), task.clients, task.iterations)).collect();
        assert_eq!(tasks, [("bulk", 4, None), ("match-all", 1, Some(10))]);
        assert_eq!(track.corpora[0].documents[0].target_index.as_deref(), Some("logs"));
        assert_eq!(track.indices[0].body["note"], "{{ not a template }} {{{%");
    }

    #[test]
    fn a_builder_is_held_to_the_same_rules_as_a_file() {
        let error = Track::builder("mine")
            .challenge(Challenge::builder("one").task(
                Task::builder(Operation::builder("search")).iterations(0).time_period(Duration::from_millis(1_500)),
            ))
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "track `mine` is not valid:\n  \
             - /challenges/0/schedule/0/iterations: must be an integer of at least 1, found 0\n  \
             - /challenges/0/schedule/0/time-period: must be an integer of at least 1, found 1.5"
        );
    }
}
