//! Reads operations, challenges and their schedules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Reader, object, optional_text, text};
use crate::track::fault::Node;
use crate::track::model::{
    Challenge, JsonObject, Operation, OperationType, Parallel, ScheduleElement, TargetThroughput, Task,
};

type Operations = HashMap<String, Arc<Operation>>;

/// The timing properties, which tasks inherit from their parallel element.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    warmup_iterations: Option<u64>,
    iterations: Option<u64>,
    warmup_time_period: Option<u64>,
    time_period: Option<u64>,
    ramp_up_time_period: Option<u64>,
}

impl Timing {
    fn read(node: &Node<'_>, inherited: &Self) -> Self {
        let number = |key, inherited| node.get(key).and_then(|number| number.value().as_u64()).or(inherited);
        Self {
            warmup_iterations: number("warmup-iterations", inherited.warmup_iterations),
            iterations: number("iterations", inherited.iterations),
            warmup_time_period: number("warmup-time-period", inherited.warmup_time_period),
            time_period: number("time-period", inherited.time_period),
            ramp_up_time_period: number("ramp-up-time-period", inherited.ramp_up_time_period),
        }
    }

    /// What does not go together.
    fn conflicts(&self) -> Vec<String> {
        let mut conflicts = Vec::new();
        let mut exclude = |one: &str, other: &str| {
            conflicts
                .push(format!("`{one}` and `{other}` exclude each other: a task is measured by iterations or by time"));
        };
        if self.warmup_iterations.is_some() && self.time_period.is_some() {
            exclude("warmup-iterations", "time-period");
        }
        if self.warmup_time_period.is_some() && self.iterations.is_some() {
            exclude("warmup-time-period", "iterations");
        }
        if let Some(ramp_up) = self.ramp_up_time_period {
            if self.warmup_iterations.is_some() {
                exclude("ramp-up-time-period", "warmup-iterations");
            }
            if self.iterations.is_some() {
                exclude("ramp-up-time-period", "iterations");
            }
            match self.warmup_time_period {
                None => conflicts.push("`ramp-up-time-period` needs a `warmup-time-period`".to_owned()),
                Some(warmup) if warmup < ramp_up => conflicts.push(format!(
                    "`warmup-time-period` ({warmup} s) must not be shorter than `ramp-up-time-period` ({ramp_up} s)"
                )),
                Some(_) => {}
            }
        }
        conflicts
    }
}

/// What a task takes from the parallel element that it is in.
#[derive(Debug)]
struct Parent {
    timing: Timing,
    completed_by: Option<String>,
}

impl Reader<'_> {
    pub(super) fn challenges(&mut self, track: &Node<'_>) -> Vec<Challenge> {
        let operations = self.operations(track);
        let parameters = object(track, "parameters");
        let forms: Vec<_> =
            ["challenge", "challenges", "schedule"].into_iter().filter_map(|key| track.get(key)).collect();
        let [form] = forms.as_slice() else {
            self.faults.push(track.lack(match forms.as_slice() {
                [] => "one of `challenge`, `challenges` and `schedule` is needed, but there is none",
                _ => "only one of `challenge`, `challenges` and `schedule` is allowed, but there are several",
            }));
            return Vec::new();
        };
        if track.get("schedule").is_some() {
            let mut challenge = self.challenge(track, &operations, &JsonObject::new());
            challenge.name = "default".to_owned();
            // These belong to the track, which has the same keys.
            (challenge.description, challenge.user_info) = (None, None);
            (challenge.meta, challenge.parameters) = (JsonObject::new(), parameters);
            (challenge.default, challenge.selected, challenge.auto_generated) = (true, true, true);
            return vec![challenge];
        }
        let elements: Vec<_> = form.elements().collect();
        let nodes = if form.value().is_array() { elements.as_slice() } else { std::slice::from_ref(form) };
        let mut challenges: Vec<Challenge> =
            nodes.iter().map(|node| self.challenge(node, &operations, &parameters)).collect();
        if let [only] = challenges.as_mut_slice() {
            (only.default, only.selected) = (true, true);
        }
        self.check_challenges(form, nodes, &challenges);
        challenges
    }

    fn check_challenges(&mut self, form: &Node<'_>, nodes: &[Node<'_>], challenges: &[Challenge]) {
        let mut names = HashSet::new();
        let mut default: Option<&Challenge> = None;
        for (node, challenge) in nodes.iter().zip(challenges) {
            if !names.insert(&challenge.name) {
                self.faults.push(node.lack(format!("another challenge is called `{}` as well", challenge.name)));
            }
            if let (true, Some(other)) = (challenge.default, default) {
                self.faults.push(node.lack(format!(
                    "`{}` and `{}` are both the default, but only one challenge can be",
                    other.name, challenge.name
                )));
            }
            default = default.or(challenge.default.then_some(challenge));
        }
        if default.is_none() {
            let names: Vec<_> = challenges.iter().map(|challenge| format!("`{}`", challenge.name)).collect();
            self.faults.push(form.lack(format!("no default: add \"default\": true to one of {}", names.join(", "))));
        }
    }

    fn operations(&mut self, track: &Node<'_>) -> Operations {
        let mut operations = Operations::new();
        for (node, operation) in self.list(track, "operations", |reader, node| (node.lack(""), reader.operation(node)))
        {
            let Some(operation) = operation else { continue };
            if operations.contains_key(&operation.name) {
                let problem = format!("another operation is called `{}` as well", operation.name);
                self.faults.push(crate::track::Fault { problem, ..node });
            }
            operations.insert(operation.name.clone(), Arc::new(operation));
        }
        operations
    }

    /// Reads an operation: an object, or the bare name of a type.
    fn operation(&mut self, node: &Node<'_>) -> Option<Operation> {
        let mut params = match node.value() {
            Value::String(_) => JsonObject::new(),
            Value::Object(params) => params.clone(),
            _ => {
                self.faults.push(node.fault("must be the name of an operation, or an operation"));
                return None;
            }
        };
        let before = self.faults.len();
        let mut member = |key: &str| match node.get(key) {
            Some(member) if !member.value().is_string() && !member.value().is_null() => {
                self.faults.push(member.fault("must be a text"));
                None
            }
            member => member.and_then(|member| member.value().as_str().map(str::to_owned)),
        };
        let (type_name, name) = match node.value().as_str() {
            Some(bare) => (Some(bare.to_owned()), Some(bare.to_owned())),
            None => (member("operation-type"), member("name")),
        };
        let param_source = member("param-source");
        let Some(type_name) = type_name else {
            if before == self.faults.len() {
                self.faults.push(node.lack("`operation-type` is missing"));
            }
            return None;
        };
        let operation_type = OperationType::from(type_name.as_str());
        if !matches!(operation_type, OperationType::Other(_)) && !params.contains_key("include-in-reporting") {
            params.insert("include-in-reporting".to_owned(), Value::Bool(!operation_type.is_admin()));
        }
        if param_source.is_none() {
            self.check_operation(node, &operation_type);
        }
        let name = name.unwrap_or(type_name);
        Some(Operation { name, operation_type, param_source, meta: object(node, "meta"), params })
    }

    fn challenge(&mut self, node: &Node<'_>, operations: &Operations, track_parameters: &JsonObject) -> Challenge {
        let mut parameters = track_parameters.clone();
        merge(&mut parameters, object(node, "parameters"));
        let mut names = HashSet::new();
        let schedule = self.list(node, "schedule", |reader, element| {
            let parsed = match element.get("parallel") {
                Some(parallel) => Some(ScheduleElement::Parallel(reader.parallel(&parallel, operations))),
                None => reader.task(element, operations, None).map(|task| ScheduleElement::Task(Box::new(task))),
            };
            for task in parsed.iter().flat_map(|element| element.tasks()) {
                if !names.insert(task.name.clone()) {
                    reader.faults.push(element.lack(format!(
                        "another task of this challenge is called `{}` as well: give one of them another `name`",
                        task.name
                    )));
                }
            }
            parsed
        });
        Challenge {
            name: text(node, "name"),
            description: optional_text(node, "description"),
            user_info: optional_text(node, "user-info"),
            meta: object(node, "meta"),
            parameters,
            default: node.get("default").is_some_and(|flag| *flag.value() == true),
            selected: false,
            auto_generated: false,
            serverless_info: Vec::new(),
            schedule: schedule.into_iter().flatten().collect(),
        }
    }

    fn parallel(&mut self, node: &Node<'_>, operations: &Operations) -> Parallel {
        let timing = Timing::read(node, &Timing::default());
        let completed_by = optional_text(node, "completed-by").filter(|name| !name.is_empty());
        let parent = Parent { timing, completed_by: completed_by.clone() };
        let tasks: Vec<Task> = self
            .list(node, "tasks", |reader, node| {
                let task = reader.task(node, operations, Some(&parent));
                if let Some(own) = node.get("ramp-up-time-period")
                    && own.value().as_u64() != timing.ramp_up_time_period
                {
                    reader.faults.push(own.fault(match timing.ramp_up_time_period {
                        Some(seconds) => format!("must be as in the parallel element, {seconds}, or not be there"),
                        None => "is only allowed on the parallel element as a whole".to_owned(),
                    }));
                }
                task
            })
            .into_iter()
            .flatten()
            .collect();
        if let (Some(wanted), Some(member)) = (completed_by.filter(|name| name != "any"), node.get("completed-by")) {
            match tasks.iter().filter(|task| task.name == wanted).count() {
                1 => {}
                0 => self.faults.push(member.fault("no task of the parallel element has this name")),
                _ => self.faults.push(member.fault("several tasks of the parallel element have this name")),
            }
        }
        let params = all_but(node, "tasks");
        Parallel { declared_clients: clients(node), tasks, params }
    }

    fn task(&mut self, node: &Node<'_>, operations: &Operations, parent: Option<&Parent>) -> Option<Task> {
        let written = node.get("operation")?;
        let operation = match written.value().as_str().and_then(|name| operations.get(name)) {
            Some(operation) => operation.clone(),
            None => Arc::new(self.operation(&written)?),
        };
        let inherited = parent.map(|parent| parent.timing).unwrap_or_default();
        let timing = Timing::read(node, &inherited);
        self.faults.extend(timing.conflicts().into_iter().map(|conflict| node.lack(conflict)));
        let params = all_but(node, "operation");
        let target_throughput = TargetThroughput::from_params(&params).unwrap_or_else(|error| {
            let at = ["target-interval", "target-throughput"].into_iter().find_map(|key| node.get(key));
            self.faults.push(at.unwrap_or(*node).fault(error.to_string()));
            None
        });
        let name = optional_text(node, "name").unwrap_or_else(|| operation.name.clone());
        let completed_by = parent.and_then(|parent| parent.completed_by.as_deref());
        let any_completes_parent = completed_by == Some("any");
        Some(Task {
            tags: self.tags(node),
            meta: object(node, "meta"),
            clients: clients(node).unwrap_or(1),
            warmup_iterations: timing.warmup_iterations,
            iterations: timing.iterations,
            warmup_time_period: timing.warmup_time_period.map(Duration::from_secs),
            time_period: timing.time_period.map(Duration::from_secs),
            ramp_up_time_period: timing.ramp_up_time_period.map(Duration::from_secs),
            schedule: self.scheduler(node),
            target_throughput,
            ignores_non_fatal_errors: self.ignores_non_fatal_errors(node),
            completes_parent: completed_by == Some(name.as_str()),
            any_completes_parent,
            name,
            operation,
            params,
        })
    }

    fn scheduler(&mut self, node: &Node<'_>) -> Option<String> {
        let schedule = node.get("schedule").filter(|schedule| !schedule.value().is_null())?;
        if !schedule.value().is_string() {
            self.faults.push(schedule.fault("must be the name of a scheduler"));
        }
        optional_text(node, "schedule")
    }

    fn tags(&mut self, node: &Node<'_>) -> Vec<String> {
        let Some(tags) = node.get("tags") else { return Vec::new() };
        match tags.value() {
            Value::Null => Vec::new(),
            Value::String(tag) => vec![tag.clone()],
            Value::Array(values) if values.iter().all(Value::is_string) => {
                values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => {
                self.faults.push(tags.fault("must be a text or an array of texts"));
                Vec::new()
            }
        }
    }

    fn ignores_non_fatal_errors(&mut self, node: &Node<'_>) -> bool {
        match node.get("ignore-response-error-level") {
            Some(level) if level.value() == "non-fatal" => true,
            Some(level) if !level.value().is_null() && level.value() != "" => {
                self.faults.push(level.fault("the only allowed value is `non-fatal`"));
                false
            }
            _ => false,
        }
    }
}

/// All members of an object but one.
fn all_but(node: &Node<'_>, left_out: &str) -> JsonObject {
    let members = node.value().as_object().into_iter().flatten().filter(|(key, _)| *key != left_out);
    members.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn clients(node: &Node<'_>) -> Option<u32> {
    // The schema lets no negative number pass. More clients than this number can hold, no machine can have.
    node.get("clients")?.value().as_u64().map(|clients| u32::try_from(clients).unwrap_or(u32::MAX))
}

/// Merges objects. What is in both is merged too if it is an object, or joined if it is an array; otherwise the new value
/// wins.
fn merge(into: &mut JsonObject, new: JsonObject) {
    for (key, value) in new {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(value)) => merge(old, value),
            (Some(Value::Array(old)), Value::Array(values)) => {
                for value in values {
                    if !old.contains(&value) {
                        old.push(value);
                    }
                }
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
