//! Parameters of operations that create, delete and maintain what the track declares.

use rally_core::track::{IndexTemplate, JsonObject, Track};
use serde_json::{Map, Value, json};

use super::search::only_target;
use super::{Fixed, invalid, missing, names};
use crate::{ParamSourceSetup, Registry, RunnerError};

pub(super) fn register(registry: &mut Registry) {
    registry.register_param_source("create-index", create_index);
    registry.register_param_source("delete-index", delete_index);
    registry.register_param_source("create-data-stream", data_streams);
    registry.register_param_source("delete-data-stream", data_streams);
    registry.register_param_source("force-merge", force_merge);
    registry.register_param_source("downsample", downsample);
    registry
        .register_param_source("create-index-template", |setup| create_template(setup, &setup.plan.track.templates));
    registry.register_param_source("create-composable-template", |setup| {
        create_template(setup, &setup.plan.track.composable_templates)
    });
    registry
        .register_param_source("delete-index-template", |setup| delete_template(setup, &setup.plan.track.templates));
    registry.register_param_source("delete-composable-template", |setup| {
        delete_template(setup, &setup.plan.track.composable_templates)
    });
    registry.register_param_source("create-component-template", create_component_template);
    registry.register_param_source("delete-component-template", delete_component_template);
}

/// The operation's own parameters, with its type.
fn own(setup: &ParamSourceSetup) -> JsonObject {
    let mut values = setup.task.operation.params.clone();
    values.insert("operation-type".to_owned(), json!(setup.task.operation.operation_type.as_str()));
    values
}

fn with(setup: &ParamSourceSetup, key: &str, value: Value) -> Fixed {
    let mut values = own(setup);
    values.insert(key.to_owned(), value);
    Fixed::new(values)
}

/// `indices`: a list of `[name, body]`.
fn create_index(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let params = &setup.task.operation.params;
    let wanted = names(params, "index");
    let declared = &setup.plan.track.indices;
    let indices: Vec<Value> = if declared.is_empty() {
        let body = params.get("body").cloned().unwrap_or(Value::Null);
        let wanted = wanted.ok_or_else(|| missing(&setup.task, "index"))?;
        wanted.iter().map(|name| json!([name, body])).collect()
    } else {
        let fits = |name: &String| wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
        let settings = params.get("settings");
        declared
            .iter()
            .filter(|index| fits(&index.name))
            .map(|index| {
                let mut body = index.body.clone();
                if let Some(Value::Object(settings)) = settings {
                    merge(&mut body, &["settings"], settings, false);
                }
                json!([index.name, body])
            })
            .collect()
    };
    Ok(with(setup, "indices", indices.into()))
}

/// `indices`: a list of names; `only-if-exists` is true unless the operation says otherwise.
fn delete_index(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = setup.plan.track.indices.iter().map(|index| index.name.clone()).collect();
    deleted(setup, "index", "indices", declared)
}

/// `data-streams`: a list of names.
fn data_streams(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = setup.plan.track.data_streams.iter().map(|stream| stream.name.clone()).collect();
    deleted(setup, "data-stream", "data-streams", declared)
}

fn deleted(setup: &ParamSourceSetup, key: &str, list: &str, declared: Vec<String>) -> Result<Fixed, RunnerError> {
    let given = setup.task.operation.params.get(key);
    let chosen: Vec<String> = match given {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(given)) => given.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => declared,
    };
    if chosen.is_empty() {
        return Err(missing(&setup.task, key));
    }
    let mut values = own(setup);
    values.insert(list.to_owned(), chosen.into());
    values.entry("only-if-exists").or_insert(Value::Bool(true));
    Ok(Fixed::new(values))
}

/// `index`: what is to be merged, as it stands in the path.
fn force_merge(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let track = &setup.plan.track;
    let params = &setup.task.operation.params;
    let given = params.get("index").or_else(|| params.get("data-stream")).and_then(Value::as_str);
    let declared: Vec<&str> = track
        .indices
        .iter()
        .map(|index| index.name.as_str())
        .chain(track.data_streams.iter().map(|stream| stream.name.as_str()))
        .collect();
    let all = if declared.is_empty() { "_all".to_owned() } else { declared.join(",") };
    let mut values = own(setup);
    values.insert("index".to_owned(), json!(given.unwrap_or(&all)));
    values.entry("mode").or_insert(json!("blocking"));
    values.entry("poll-period").or_insert(json!(10));
    Ok(Fixed::new(values))
}

fn downsample(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let mut values = own(setup);
    let source = values.get("source-index").cloned().or_else(|| only_target(&setup.plan.track));
    let source = source.ok_or_else(|| missing(&setup.task, "source-index"))?;
    let interval = values.entry("fixed-interval").or_insert(json!("1h")).clone();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(source), Some(interval)) = (text(&source), text(&interval)) else {
        return Err(invalid(&setup.task, "`source-index` and `fixed-interval` must be texts"));
    };
    values.entry("target-index").or_insert(json!(format!("{source}-{interval}")));
    values.insert("source-index".to_owned(), json!(source));
    Ok(Fixed::new(values))
}

/// `templates`: a list of `[name, body]`. The operation's own template wins over those that the track declares.
fn create_template(setup: &ParamSourceSetup, declared: &[IndexTemplate]) -> Result<Fixed, RunnerError> {
    let params = &setup.task.operation.params;
    let is_composable = setup.task.operation.operation_type.as_str() == "create-composable-template";
    if let (Some(name), Some(body)) = (params.get("template"), params.get("body"))
        && (is_composable || declared.is_empty())
    {
        return Ok(with(setup, "templates", json!([[name, body]])));
    }
    let templates: Vec<(String, Value)> =
        declared.iter().map(|template| (template.name.clone(), template.content.clone())).collect();
    let path: &[&str] = if is_composable { &["template", "settings"] } else { &["settings"] };
    declared_templates(setup, templates, path)
}

fn create_component_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let params = &setup.task.operation.params;
    if let (Some(name), Some(body)) = (params.get("template"), params.get("body")) {
        return Ok(with(setup, "templates", json!([[name, body]])));
    }
    let declared = &setup.plan.track.component_templates;
    let templates = declared.iter().map(|template| (template.name.clone(), template.content.clone())).collect();
    declared_templates(setup, templates, &["template", "settings"])
}

/// The declared templates that the operation names, all if it names none, with its settings merged in.
fn declared_templates(
    setup: &ParamSourceSetup,
    templates: Vec<(String, Value)>,
    path: &[&str],
) -> Result<Fixed, RunnerError> {
    let params = &setup.task.operation.params;
    let wanted = names(params, "template");
    let known: Vec<String> = templates.iter().map(|(name, _)| name.clone()).collect();
    let chosen: Vec<Value> = templates
        .into_iter()
        .filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)))
        .map(|(name, mut body)| {
            if let Some(Value::Object(settings)) = params.get("settings") {
                merge(&mut body, path, settings, true);
            }
            json!([name, body])
        })
        .collect();
    if chosen.is_empty() {
        let problem = if known.is_empty() {
            "the track declares no template; give `template` and `body`".to_owned()
        } else {
            format!("the track declares no such template, only {}", known.join(", "))
        };
        return Err(invalid(&setup.task, problem));
    }
    Ok(with(setup, "templates", chosen.into()))
}

/// `templates`: a list of `[name, whether indices are deleted, their pattern]`.
fn delete_template(setup: &ParamSourceSetup, declared: &[IndexTemplate]) -> Result<Fixed, RunnerError> {
    let params = &setup.task.operation.params;
    let wanted = names(params, "template");
    let templates: Vec<Value> = if declared.is_empty() {
        let name = params.get("template").ok_or_else(|| missing(&setup.task, "template"))?;
        let deletes = params.get("delete-matching-indices").and_then(Value::as_bool).unwrap_or(false);
        let pattern = params.get("index-pattern").cloned().unwrap_or(Value::Null);
        if deletes && pattern.is_null() {
            return Err(missing(&setup.task, "index-pattern"));
        }
        vec![json!([name, deletes, pattern])]
    } else {
        declared
            .iter()
            .filter(|template| wanted.as_ref().is_none_or(|wanted| wanted.contains(&template.name)))
            .map(|template| json!([template.name, template.delete_matching_indices, template.pattern]))
            .collect()
    };
    let mut values = own(setup);
    values.insert("templates".to_owned(), templates.into());
    values.entry("only-if-exists").or_insert(Value::Bool(true));
    Ok(Fixed::new(values))
}

fn delete_component_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = component_names(&setup.plan.track);
    deleted(setup, "template", "templates", declared)
}

fn component_names(track: &Track) -> Vec<String> {
    track.component_templates.iter().map(|template| template.name.clone()).collect()
}

/// Merges settings into a part of a body; objects within each other only if it is to be deep.
fn merge(body: &mut Value, path: &[&str], settings: &Map<String, Value>, deep: bool) {
    if !body.is_object() {
        *body = json!({});
    }
    let Value::Object(entries) = body else { return };
    match path {
        [first, rest @ ..] => merge(entries.entry(*first).or_insert_with(|| json!({})), rest, settings, deep),
        [] => {
            for (key, value) in settings {
                match (entries.get_mut(key), value) {
                    (Some(before @ Value::Object(_)), Value::Object(value)) if deep => merge(before, &[], value, true),
                    _ => drop(entries.insert(key.clone(), value.clone())),
                }
            }
        }
    }
}
