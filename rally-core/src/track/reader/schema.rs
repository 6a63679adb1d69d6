//! The shape of a track file: which members it may have, and of which types.
//!
//! Members that are not listed are allowed everywhere.

use std::collections::HashMap;

use serde_json::Value;

use crate::track::fault::{Fault, Node};

/// What a value must be.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Text,
    /// A text, or `null` for none.
    OptionalText,
    Flag,
    Object,
    /// An integer of at least this.
    Integer(u64),
    /// A number of at least zero.
    Number,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A number of at least zero, or a text.
    Throughput,
    /// An integer of at least one, or `all`.
    Pages,
}

impl Rule {
    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::OptionalText => value.is_string() || value.is_null(),
            Self::Flag => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Integer(minimum) => value.as_u64().is_some_and(|value| value >= minimum),
            Self::Number => value.as_f64().is_some_and(|value| value >= 0.0),
            Self::OneOf(allowed) => value.as_str().is_some_and(|value| allowed.contains(&value)),
            Self::Throughput => value.is_string() || Self::Number.accepts(value),
            Self::Pages => value == "all" || Self::Integer(1).accepts(value),
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Text => "must be a text".to_owned(),
            Self::OptionalText => "must be a text, or `null` for none".to_owned(),
            Self::Flag => "must be `true` or `false`".to_owned(),
            Self::Object => "must be an object".to_owned(),
            Self::Integer(minimum) => format!("must be an integer of at least {minimum}"),
            Self::Number => "must be a number of at least 0".to_owned(),
            Self::OneOf(allowed) => format!("must be one of {}", allowed.join(", ")),
            Self::Throughput => "must be a number of at least 0, or a text such as `500 docs/s`".to_owned(),
            Self::Pages => "must be an integer of at least 1, or `all`".to_owned(),
        }
    }
}

type Rules = [(&'static str, Rule)];

const TRACK: &Rules = &[("description", Rule::Text), ("meta", Rule::Object), ("parameters", Rule::Object)];

const INDEX: &Rules = &[("name", Rule::Text), ("body", Rule::OptionalText)];

const DATA_STREAM: &Rules = &[("name", Rule::Text)];

const COMPONENT_TEMPLATE: &Rules = &[("name", Rule::Text), ("template", Rule::Text), ("template-path", Rule::Text)];

const INDEX_TEMPLATE: &Rules = &[
    ("name", Rule::Text),
    ("index-pattern", Rule::Text),
    ("delete-matching-indices", Rule::Flag),
    ("template", Rule::Text),
    ("template-path", Rule::Text),
];

const CORPUS: &Rules = &[
    ("name", Rule::Text),
    ("base-url", Rule::Text),
    ("source-format", Rule::Text),
    ("includes-action-and-meta-data", Rule::Flag),
    ("target-index", Rule::Text),
    ("target-data-stream", Rule::Text),
    ("target-type", Rule::Text),
    ("meta", Rule::Object),
];

const DOCUMENTS: &Rules = &[
    ("base-url", Rule::Text),
    ("source-file", Rule::Text),
    ("source-format", Rule::Text),
    ("document-count", Rule::Integer(1)),
    ("includes-action-and-meta-data", Rule::Flag),
    ("compressed-bytes", Rule::Integer(1)),
    ("uncompressed-bytes", Rule::Integer(1)),
    ("target-index", Rule::Text),
    ("target-data-stream", Rule::OptionalText),
    ("target-type", Rule::Text),
    ("meta", Rule::Object),
];

/// Only for operations that the track declares by name: those within a schedule are free.
const OPERATION: &Rules = &[
    ("name", Rule::Text),
    ("meta", Rule::Object),
    ("operation-type", Rule::Text),
    ("request-timeout", Rule::Number),
    ("bulk-size", Rule::Integer(1)),
    ("pipeline", Rule::Text),
    ("conflicts", Rule::OneOf(&["sequential", "random"])),
    ("clients", Rule::Object),
    ("cache", Rule::Flag),
    ("index", Rule::Text),
    ("type", Rule::Text),
    ("pages", Rule::Pages),
    ("results-per-page", Rule::Integer(1)),
    ("body", Rule::Object),
    ("mode", Rule::OneOf(&["blocking", "polling"])),
    ("poll-period", Rule::Integer(1)),
];

const CHALLENGE: &Rules = &[
    ("name", Rule::Text),
    ("default", Rule::Flag),
    ("meta", Rule::Object),
    ("description", Rule::Text),
    ("user-info", Rule::Text),
    ("parameters", Rule::Object),
    ("cluster-settings", Rule::Object),
];

/// What tasks and parallel elements have in common.
const TIMING: &Rules = &[
    ("clients", Rule::Integer(1)),
    ("warmup-iterations", Rule::Integer(0)),
    ("iterations", Rule::Integer(1)),
    ("ramp-up-time-period", Rule::Integer(0)),
    ("warmup-time-period", Rule::Integer(0)),
    ("time-period", Rule::Integer(1)),
];

const TASK: &Rules = &[
    ("name", Rule::Text),
    ("meta", Rule::Object),
    ("target-throughput", Rule::Throughput),
    ("target-interval", Rule::Number),
];

/// Checked of the tasks of a parallel element; other tasks are free in this.
const PARALLEL_TASK: &Rules =
    &[("schedule", Rule::Text), ("ignore-response-error-level", Rule::Text), ("run-on-serverless", Rule::Flag)];

const PARALLEL: &Rules = &[("completed-by", Rule::Text)];

/// Checks the shape of a whole track.
pub(super) fn check(track: &Node<'_>) -> Vec<Fault> {
    let mut schema = Schema { faults: Vec::new() };
    if !track.value().is_object() {
        return vec![track.fault("must be an object")];
    }
    schema.check_version(track);
    schema.object(track, TRACK, &[]);
    schema.array(track, "indices", 1, |schema, index| {
        schema.object(index, INDEX, &["name"]);
        schema.array(index, "types", 1, |_, _| {});
    });
    schema.array(track, "data-streams", 1, |schema, stream| schema.object(stream, DATA_STREAM, &["name"]));
    for key in ["templates", "composable-templates"] {
        schema.array(track, key, 1, |schema, template| {
            schema.object(template, INDEX_TEMPLATE, &["name", "index-pattern", "template"]);
        });
    }
    schema.array(track, "component-templates", 1, |schema, template| {
        schema.object(template, COMPONENT_TEMPLATE, &["name", "template"]);
    });
    schema.array(track, "corpora", 1, |schema, corpus| {
        schema.object(corpus, CORPUS, &["name", "documents"]);
        schema.array(corpus, "documents", 1, |schema, documents| {
            schema.object(documents, DOCUMENTS, &["source-file", "document-count"]);
        });
    });
    schema.array(track, "operations", 1, |schema, operation| {
        schema.object(operation, OPERATION, &["name", "operation-type"]);
        if let Some(clients) = operation.get("clients").filter(|clients| clients.value().is_object()) {
            schema.object(&clients, &[("count", Rule::Integer(1)), ("compression", Rule::Flag)], &["count"]);
        }
    });
    schema.array(track, "dependencies", 0, |schema, dependency| schema.rule(dependency, Rule::Text));
    schema.array(track, "challenges", 1, |schema, challenge| schema.challenge(challenge));
    if let Some(challenge) = track.get("challenge") {
        schema.challenge(&challenge);
    }
    schema.schedule(track);
    schema.faults
}

struct Schema {
    faults: Vec<Fault>,
}

impl Schema {
    fn check_version(&mut self, track: &Node<'_>) {
        let Some(version) = track.get("version") else { return };
        match version.value().as_u64() {
            Some(2) => {}
            Some(older @ ..2) => self.faults.push(version.lack(format!(
                "the track is written for version {older} of the format, but only version 2 is supported: update the track"
            ))),
            Some(newer) => self.faults.push(version.lack(format!(
                "the track is written for version {newer} of the format, but only version 2 is supported: update Rally"
            ))),
            None => self.faults.push(version.fault("must be the version of the format, 2")),
        }
    }

    fn rule(&mut self, node: &Node<'_>, rule: Rule) {
        if !rule.accepts(node.value()) {
            self.faults.push(node.fault(rule.sentence()));
        }
    }

    fn object(&mut self, node: &Node<'_>, rules: &Rules, required: &[&str]) {
        if !node.value().is_object() {
            self.faults.push(node.fault(Rule::Object.sentence()));
            return;
        }
        for (key, member) in node.members() {
            if let Some((_, rule)) = rules.iter().find(|(name, _)| *name == key) {
                self.rule(&member, *rule);
            }
        }
        for key in required {
            if node.get(key).is_none() {
                self.faults.push(node.lack(format!("`{key}` is missing")));
            }
        }
    }

    fn array(&mut self, parent: &Node<'_>, key: &str, minimum: usize, mut each: impl FnMut(&mut Self, &Node<'_>)) {
        let Some(node) = parent.get(key) else { return };
        let Value::Array(elements) = node.value() else {
            self.faults.push(node.fault("must be an array"));
            return;
        };
        if elements.len() < minimum {
            self.faults.push(node.lack("must not be empty: leave it out, or add an element"));
        }
        // Tasks may repeat here; their names are looked at later.
        let unique = key != "schedule" && key != "tasks";
        let mut seen: HashMap<Option<&str>, Vec<&Value>> = HashMap::new();
        for element in node.elements() {
            if unique {
                // What is equal has the same name, so that few have to be compared.
                let name = element.value().get("name").unwrap_or(element.value()).as_str();
                let others = seen.entry(name).or_default();
                if others.contains(&element.value()) {
                    self.faults.push(element.fault("must not be there twice"));
                }
                others.push(element.value());
            }
            each(self, &element);
        }
    }

    fn challenge(&mut self, challenge: &Node<'_>) {
        self.object(challenge, CHALLENGE, &["name", "schedule"]);
        self.schedule(challenge);
    }

    fn schedule(&mut self, parent: &Node<'_>) {
        self.array(parent, "schedule", 1, |schema, element| {
            schema.object(element, TIMING, &[]);
            schema.object(element, TASK, &[]);
            match element.get("parallel") {
                Some(parallel) => schema.parallel(&parallel),
                None if element.value().is_object() && element.get("operation").is_none() => {
                    schema.faults.push(element.lack("`operation` or `parallel` is missing"));
                }
                None => {}
            }
        });
    }

    fn parallel(&mut self, parallel: &Node<'_>) {
        self.object(parallel, TIMING, &["tasks"]);
        self.object(parallel, PARALLEL, &[]);
        self.array(parallel, "tasks", 1, |schema, task| {
            schema.object(task, TIMING, &["operation"]);
            schema.object(task, TASK, &[]);
            schema.object(task, PARALLEL_TASK, &[]);
        });
    }
}
