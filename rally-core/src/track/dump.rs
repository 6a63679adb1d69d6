//! The canonical form of a loaded track as JSON, for programs: what `rallyd info --format=json` prints.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::{LoadTrackError, LoadedTrack};
use super::model::{Challenge, Corpus, Documents, IndexTemplate, Operation, ScheduleElement, Task, Track};

impl LoadedTrack {
    /// The canonical form: the rendered file, the model and the parameters of the track.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "format": "rally-track-golden/1",
            "rendered": self.rendered,
            "track": track(&self.track),
            "exposed_params": self.exposed_parameters,
            "warnings": self.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

impl LoadTrackError {
    /// The canonical form of a refusal.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"error": {"stage": self.stage().as_str(), "message": self.to_string()}})
    }
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Value) -> Value {
    items.iter().map(each).collect()
}

fn track(track: &Track) -> Value {
    json!({
        "name": track.name,
        "description": track.description,
        "meta": track.meta,
        "dependencies": track.dependencies,
        "has_plugins": track.has_python_plugin,
        "number_of_documents": track.number_of_documents(),
        "compressed_size_in_bytes": track.compressed_size_in_bytes(),
        "uncompressed_size_in_bytes": track.uncompressed_size_in_bytes(),
        "default_challenge": track.default_challenge().map(|challenge| &challenge.name),
        "selected_challenge": track.selected_challenge().map(|challenge| &challenge.name),
        "indices": list(&track.indices, |index| json!({"name": index.name, "body": index.body})),
        "data_streams": list(&track.data_streams, |data_stream| json!({"name": data_stream.name})),
        "templates": list(&track.templates, index_template),
        "composable_templates": list(&track.composable_templates, index_template),
        "component_templates": list(&track.component_templates, |template| {
            json!({"name": template.name, "content": template.content})
        }),
        "corpora": list(&track.corpora, corpus),
        "challenges": list(&track.challenges, challenge),
    })
}

fn index_template(template: &IndexTemplate) -> Value {
    json!({
        "name": template.name,
        "pattern": template.pattern,
        "delete_matching_indices": template.delete_matching_indices,
        "content": template.content,
    })
}

fn corpus(corpus: &Corpus) -> Value {
    json!({"name": corpus.name, "meta": corpus.meta, "documents": list(&corpus.documents, documents)})
}

fn documents(documents: &Documents) -> Value {
    json!({
        "source_format": documents.source_format.as_str(),
        "document_file": documents.document_file,
        "document_archive": documents.document_archive,
        "base_url": documents.base_url,
        "includes_action_and_meta_data": documents.includes_action_and_meta_data,
        "number_of_documents": documents.number_of_documents,
        "number_of_lines": documents.number_of_lines(),
        "compressed_size_in_bytes": documents.compressed_size_in_bytes,
        "uncompressed_size_in_bytes": documents.uncompressed_size_in_bytes,
        "target_index": documents.target_index,
        "target_data_stream": documents.target_data_stream,
        "meta": documents.meta,
    })
}

fn challenge(challenge: &Challenge) -> Value {
    json!({
        "name": challenge.name,
        "description": challenge.description,
        "user_info": challenge.user_info,
        "meta": challenge.meta,
        "parameters": challenge.parameters,
        "default": challenge.default,
        "selected": challenge.selected,
        "auto_generated": challenge.auto_generated,
        "serverless_info": challenge.serverless_info,
        "schedule": list(&challenge.schedule, element),
    })
}

fn element(element: &ScheduleElement) -> Value {
    match element {
        ScheduleElement::Task(one) => task(one),
        ScheduleElement::Parallel(parallel) => json!({
            "kind": "parallel",
            "clients": parallel.clients(),
            "clients_declared": parallel.declared_clients,
            "tasks": list(&parallel.tasks, task),
        }),
    }
}

fn task(task: &Task) -> Value {
    let seconds = |period: Option<Duration>| period.map(|period| period.as_secs());
    json!({
        "kind": "task",
        "name": task.name,
        "operation": operation(&task.operation),
        "tags": task.tags,
        "meta": task.meta,
        "clients": task.clients,
        "warmup_iterations": task.warmup_iterations,
        "iterations": task.iterations,
        "warmup_time_period": seconds(task.warmup_time_period),
        "time_period": seconds(task.time_period),
        "ramp_up_time_period": seconds(task.ramp_up_time_period),
        "schedule": task.schedule,
        "target_throughput": task.target_throughput,
        "completes_parent": task.completes_parent,
        "any_completes_parent": task.any_completes_parent,
        "ignore_response_error_level": task.params.get("ignore-response-error-level"),
        "params": task.params,
    })
}

fn operation(operation: &Operation) -> Value {
    json!({
        "name": operation.name,
        "type": operation.operation_type,
        "param_source": operation.param_source,
        "meta": operation.meta,
        "include_in_reporting": operation.params.get("include-in-reporting").unwrap_or(&Value::Bool(true)),
        "run_on_serverless": operation.params.get("run-on-serverless"),
        "params": operation.params,
    })
}
