//! Parameters of operations that create, delete and maintain what the track declares.

use rally_core::track::{Index, IndexTemplate, JsonObject};
use serde_json::{Map, Value, json};

use super::Fixed;
use super::search::target;
use crate::parameters::Parameters;
use crate::{ParamSourceSetup, Registry, RunnerError};

pub(super) fn register(registry: &mut Registry) {
    registry.register_param_source("create-index", create_index);
    registry.register_param_source("delete-index", delete_index);
    registry.register_param_source("create-data-stream", create_data_stream);
    registry.register_param_source("delete-data-stream", delete_data_stream);
    registry.register_param_source("force-merge", force_merge);
    registry.register_param_source("downsample", downsample);
    registry.register_param_source("create-index-template", create_index_template);
    registry.register_param_source("create-composable-template", create_composable_template);
    registry
        .register_param_source("delete-index-template", |setup| delete_template(setup, &setup.plan.track.templates));
    registry.register_param_source("delete-composable-template", |setup| {
        delete_template(setup, &setup.plan.track.composable_templates)
    });
    registry.register_param_source("create-component-template", create_component_template);
    registry.register_param_source("delete-component-template", delete_component_template);
}

fn parameters(setup: &ParamSourceSetup) -> Parameters<'_> {
    Parameters::of(&setup.task)
}

/// The operation's own parameters, with its type. Those that are null are as good as none.
fn own(setup: &ParamSourceSetup) -> JsonObject {
    let mut values = setup.task.operation.params.clone();
    values.retain(|_, value| !value.is_null());
    values.insert("operation-type".to_owned(), json!(setup.task.operation.operation_type.as_str()));
    values
}

fn with(setup: &ParamSourceSetup, key: &str, value: Value) -> Fixed {
    let mut values = own(setup);
    values.insert(key.to_owned(), value);
    Fixed::new(values)
}

/// What is merged into what the track declares, if there is anything.
fn settings(setup: &ParamSourceSetup) -> Result<Option<&JsonObject>, RunnerError> {
    Ok(parameters(setup).object("settings")?.filter(|settings| !settings.is_empty()))
}

/// `indices`: a list of `[name, body]`.
fn create_index(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let params = parameters(setup);
    let given = params.names("index")?;
    let declared: Vec<&Index> = setup.plan.track.indices.iter().collect();
    let indices: Vec<Value> = if declared.is_empty() {
        let body = params.get("body").cloned().unwrap_or(Value::Null);
        let given = given.ok_or_else(|| params.missing("index"))?;
        given.iter().map(|name| json!([name, body])).collect()
    } else {
        let settings = settings(setup)?;
        let chosen = chosen(setup, "index", declared, given, |index| &index.name)?.into_iter();
        let with_settings = |index: &Index| {
            let mut body = index.body.clone();
            if let Some(settings) = settings {
                merge(&mut body, &["settings"], settings, false);
            }
            json!([index.name, body])
        };
        chosen.map(with_settings).collect()
    };
    Ok(with(setup, "indices", indices.into()))
}

/// `indices`: a list of names; `only-if-exists` is true unless the operation says otherwise.
fn delete_index(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = setup.plan.track.indices.iter().map(|index| index.name.clone()).collect();
    deleted(setup, "index", "indices", declared)
}

/// `data-streams`: a list of names.
fn create_data_stream(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = data_streams(setup);
    let chosen = match parameters(setup).names("data-stream")? {
        given if !declared.is_empty() => chosen(setup, "data-stream", declared, given, String::as_str)?,
        Some(given) => given,
        None => return Err(parameters(setup).missing("data-stream")),
    };
    Ok(with(setup, "data-streams", chosen.into()))
}

/// `data-streams`: a list of names; `only-if-exists` is true unless the operation says otherwise.
fn delete_data_stream(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    deleted(setup, "data-stream", "data-streams", data_streams(setup))
}

fn data_streams(setup: &ParamSourceSetup) -> Vec<String> {
    setup.plan.track.data_streams.iter().map(|stream| stream.name.clone()).collect()
}

/// What the operation names, or else all that the track declares.
fn deleted(setup: &ParamSourceSetup, key: &str, list: &str, declared: Vec<String>) -> Result<Fixed, RunnerError> {
    let chosen = parameters(setup).names(key)?.unwrap_or(declared);
    if chosen.is_empty() {
        return Err(parameters(setup).missing(key));
    }
    Ok(deletion(setup, list, chosen.into()))
}

fn deletion(setup: &ParamSourceSetup, list: &str, chosen: Value) -> Fixed {
    let mut values = own(setup);
    values.insert(list.to_owned(), chosen);
    values.entry("only-if-exists").or_insert(Value::Bool(true));
    Fixed::new(values)
}

/// Those of what the track declares that the operation names, all if it names none.
fn chosen<T>(
    setup: &ParamSourceSetup,
    key: &str,
    declared: Vec<T>,
    given: Option<Vec<String>>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>, RunnerError> {
    let Some(given) = given else { return Ok(declared) };
    let known: Vec<String> = declared.iter().map(|declared| name(declared).to_owned()).collect();
    let chosen: Vec<T> =
        declared.into_iter().filter(|declared| given.iter().any(|given| given == name(declared))).collect();
    if chosen.is_empty() {
        let (given, known) = (given.join(", "), known.join(", "));
        return Err(parameters(setup).invalid(format!("the track declares no {key} `{given}`, only {known}")));
    }
    Ok(chosen)
}

/// `index`: what is to be merged, as it stands in the path.
fn force_merge(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let track = &setup.plan.track;
    let given = match parameters(setup).names("index")? {
        None => parameters(setup).names("data-stream")?,
        index => index,
    };
    let declared: Vec<&str> = track
        .indices
        .iter()
        .map(|index| index.name.as_str())
        .chain(track.data_streams.iter().map(|stream| stream.name.as_str()))
        .collect();
    let all = || if declared.is_empty() { "_all".to_owned() } else { declared.join(",") };
    let mut values = own(setup);
    values.insert("index".to_owned(), given.map_or_else(all, |given| given.join(",")).into());
    Ok(Fixed::new(values))
}

fn downsample(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let mut values = own(setup);
    let source = target(&parameters(setup), "source-index", &setup.plan.track);
    let source = source.ok_or_else(|| parameters(setup).missing("source-index"))?;
    let interval = values.entry("fixed-interval").or_insert(json!("1h")).clone();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(source), Some(interval)) = (text(&source), text(&interval)) else {
        return Err(parameters(setup).invalid("`source-index` and `fixed-interval` must be texts"));
    };
    values.entry("target-index").or_insert(json!(format!("{source}-{interval}")));
    values.insert("source-index".to_owned(), json!(source));
    Ok(Fixed::new(values))
}

/// `templates`: a list of `[name, body]`. Of the old kind, those that the track declares win over the operation's own.
fn create_index_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = contents(&setup.plan.track.templates);
    if declared.is_empty() {
        let given = parameters(setup);
        return Ok(with(setup, "templates", json!([[given.wanted("template")?, given.wanted("body")?]])));
    }
    declared_templates(setup, declared, &["settings"], false)
}

fn create_composable_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    own_or_declared_templates(setup, contents(&setup.plan.track.composable_templates))
}

fn create_component_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared = setup.plan.track.component_templates.iter();
    own_or_declared_templates(setup, declared.map(|it| (it.name.clone(), it.content.clone())).collect())
}

fn contents(templates: &[IndexTemplate]) -> Vec<(String, Value)> {
    templates.iter().map(|template| (template.name.clone(), template.content.clone())).collect()
}

/// `templates`: a list of `[name, body]`. The operation's own template wins over those that the track declares.
fn own_or_declared_templates(setup: &ParamSourceSetup, declared: Vec<(String, Value)>) -> Result<Fixed, RunnerError> {
    let params = parameters(setup);
    match (params.get("template"), params.get("body")) {
        (Some(name), Some(body)) => Ok(with(setup, "templates", json!([[name, body]]))),
        _ if declared.is_empty() => Err(params.invalid("the track declares no template; give `template` and `body`")),
        _ => declared_templates(setup, declared, &["template", "settings"], true),
    }
}

/// The declared templates that the operation names, all if it names none, with its settings merged in.
fn declared_templates(
    setup: &ParamSourceSetup,
    declared: Vec<(String, Value)>,
    path: &[&str],
    deep: bool,
) -> Result<Fixed, RunnerError> {
    let settings = settings(setup)?;
    let given = parameters(setup).names("template")?;
    let chosen = chosen(setup, "template", declared, given, |(name, _)| name)?.into_iter();
    let with_settings = |(name, mut body)| {
        if let Some(settings) = settings {
            merge(&mut body, path, settings, deep);
        }
        json!([name, body])
    };
    Ok(with(setup, "templates", chosen.map(with_settings).collect()))
}

/// `templates`: a list of `[name, whether indices are deleted, their pattern]`.
fn delete_template(setup: &ParamSourceSetup, declared: &[IndexTemplate]) -> Result<Fixed, RunnerError> {
    let given = parameters(setup);
    let templates: Vec<Value> = if declared.is_empty() {
        let name = given.wanted("template")?;
        let deletes = given.flag("delete-matching-indices", false)?;
        let pattern = given.text("index-pattern")?;
        if deletes && pattern.is_none() {
            return Err(given.missing("index-pattern"));
        }
        vec![json!([name, deletes, pattern])]
    } else {
        let chosen = chosen(setup, "template", declared.iter().collect(), given.names("template")?, |it| &it.name)?;
        chosen.iter().map(|it| json!([it.name, it.delete_matching_indices, it.pattern])).collect()
    };
    Ok(deletion(setup, "templates", templates.into()))
}

/// `templates`: a list of names.
fn delete_component_template(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let declared: Vec<String> = setup.plan.track.component_templates.iter().map(|it| it.name.clone()).collect();
    let chosen = match parameters(setup).names("template")? {
        given if !declared.is_empty() => chosen(setup, "template", declared, given, String::as_str)?,
        Some(given) => given,
        None => return Err(parameters(setup).missing("template")),
    };
    Ok(deletion(setup, "templates", chosen.into()))
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
