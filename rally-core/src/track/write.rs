//! From the object model to track files.

use serde_json::{Value, json};

use super::files::MemoryFiles;
use super::model::{Challenge, Corpus, Documents, IndexTemplate, JsonObject, Operation, ScheduleElement, Task, Track};

impl Track {
    /// The track as files: `track.json`, and one file for each index body and template.
    ///
    /// Loading them gives the same track. What is no part of the format is lost: which challenge is selected, messages
    /// about serverless, and plugins. A schedule that a filter has emptied cannot be loaded again.
    #[must_use]
    pub fn to_files(&self) -> MemoryFiles {
        let mut files = MemoryFiles::new();
        let mut track = JsonObject::new();
        track.insert("version".to_owned(), 2.into());
        if !self.description.is_empty() {
            track.insert("description".to_owned(), self.description.as_str().into());
        }
        insert_object(&mut track, "meta", &self.meta);
        insert_list(&mut track, "dependencies", self.dependencies.iter().map(|name| name.as_str().into()).collect());
        let indices = self.indices.iter().map(|index| {
            let mut entry = JsonObject::from_iter([("name".to_owned(), index.name.as_str().into())]);
            if index.body.as_object().is_none_or(|body| !body.is_empty()) {
                entry.insert("body".to_owned(), add_file(&mut files, "index", &index.body));
            }
            entry.into()
        });
        let indices = indices.collect();
        insert_list(&mut track, "indices", indices);
        let data_streams = self.data_streams.iter().map(|data_stream| json!({"name": data_stream.name}));
        insert_list(&mut track, "data-streams", data_streams.collect());
        for (key, templates) in [("templates", &self.templates), ("composable-templates", &self.composable_templates)] {
            let templates = templates.iter().map(|template| index_template(&mut files, template)).collect();
            insert_list(&mut track, key, templates);
        }
        let component_templates = self.component_templates.iter().map(|template| {
            json!({"name": template.name, "template": add_file(&mut files, "component-template", &template.content)})
        });
        let component_templates = component_templates.collect();
        insert_list(&mut track, "component-templates", component_templates);
        insert_list(&mut track, "corpora", self.corpora.iter().map(corpus).collect());
        match self.challenges.as_slice() {
            [only] if only.auto_generated => {
                insert_object(&mut track, "parameters", &only.parameters);
                track.insert("schedule".to_owned(), schedule(only));
            }
            challenges => insert_list(&mut track, "challenges", challenges.iter().map(challenge).collect()),
        }
        files.insert("track.json", template_text(&track.into()));
        files
    }
}

fn insert_object(into: &mut JsonObject, key: &str, object: &JsonObject) {
    if !object.is_empty() {
        into.insert(key.to_owned(), object.clone().into());
    }
}

fn insert_list(into: &mut JsonObject, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        into.insert(key.to_owned(), list.into());
    }
}

/// Adds a file and returns its name.
fn add_file(files: &mut MemoryFiles, kind: &str, content: &Value) -> Value {
    let name = format!("{kind}-{}.json", files.iter().count());
    files.insert(&name, template_text(content));
    name.into()
}

/// JSON as a template that renders to itself: braces in texts must not look like the beginning of an expression.
pub(crate) fn template_text(value: &Value) -> String {
    let text = format!("{value:#}\n");
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '{' && characters.peek().is_some_and(|next| "{%#".contains(*next)) {
            out.push_str("\\u007b");
        } else {
            out.push(character);
        }
    }
    out
}

fn index_template(files: &mut MemoryFiles, template: &IndexTemplate) -> Value {
    json!({
        "name": template.name,
        "index-pattern": template.pattern,
        "delete-matching-indices": template.delete_matching_indices,
        "template": add_file(files, "template", &template.content),
    })
}

fn corpus(corpus: &Corpus) -> Value {
    let mut entry = JsonObject::from_iter([("name".to_owned(), corpus.name.as_str().into())]);
    insert_object(&mut entry, "meta", &corpus.meta);
    insert_list(&mut entry, "documents", corpus.documents.iter().map(documents).collect());
    entry.into()
}

fn documents(documents: &Documents) -> Value {
    let mut entry = JsonObject::new();
    let mut insert = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(key.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    insert("source-file", Some(documents.source_file().into()));
    insert("source-format", Some(documents.source_format.as_str().into()));
    insert("document-count", Some(documents.number_of_documents.into()));
    insert("compressed-bytes", documents.compressed_size_in_bytes.map(Value::from));
    insert("uncompressed-bytes", documents.uncompressed_size_in_bytes.map(Value::from));
    insert("base-url", text(&documents.base_url));
    insert("includes-action-and-meta-data", documents.includes_action_and_meta_data.then_some(true.into()));
    insert("target-index", text(&documents.target_index));
    insert("target-data-stream", text(&documents.target_data_stream));
    insert_object(&mut entry, "meta", &documents.meta);
    entry.into()
}

fn challenge(challenge: &Challenge) -> Value {
    let mut entry = JsonObject::from_iter([("name".to_owned(), challenge.name.as_str().into())]);
    for (key, text) in [("description", &challenge.description), ("user-info", &challenge.user_info)] {
        if let Some(text) = text {
            entry.insert(key.to_owned(), text.as_str().into());
        }
    }
    if challenge.default {
        entry.insert("default".to_owned(), true.into());
    }
    insert_object(&mut entry, "meta", &challenge.meta);
    insert_object(&mut entry, "parameters", &challenge.parameters);
    entry.insert("schedule".to_owned(), schedule(challenge));
    entry.into()
}

fn schedule(challenge: &Challenge) -> Value {
    let element = |element: &ScheduleElement| match element {
        ScheduleElement::Task(one) => task(one),
        ScheduleElement::Parallel(parallel) => {
            let mut entry = parallel.params.clone();
            entry.insert("tasks".to_owned(), parallel.tasks.iter().map(task).collect());
            json!({"parallel": entry})
        }
    };
    challenge.schedule.iter().map(element).collect()
}

fn task(task: &Task) -> Value {
    let mut entry = task.params.clone();
    entry.insert("operation".to_owned(), operation(&task.operation));
    entry.into()
}

fn operation(operation: &Operation) -> Value {
    // An operation that was only named has no type among its parameters.
    if operation.params.contains_key("operation-type") {
        operation.params.clone().into()
    } else {
        operation.name.as_str().into()
    }
}
