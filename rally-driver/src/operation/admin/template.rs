//! Index templates of the old kind, composable ones, and their components.

use serde_json::Value;

use super::super::given::Given;
use super::super::request::{encode, query_text};
use super::Requests;
use super::deletion::{Deletion, Wildcards};
use crate::RunnerError;

pub(super) fn create(given: &Given<'_>, api: &str) -> Result<Requests, RunnerError> {
    let templates = given.entries("templates")?.into_iter();
    let requests = templates.map(|(name, rest)| {
        given.call("PUT", format!("/{api}/{name}")).body(rest.first().cloned().unwrap_or_default()).prepare()
    });
    Ok(requests.collect::<Result<Vec<_>, _>>()?.into())
}

/// Deletes templates, each with the indices that match its pattern if it says so.
pub(super) fn delete(given: &Given<'_>, api: &str) -> Result<Deletion, RunnerError> {
    let mut deletion = Deletion::new(given, Wildcards::ForPatterns)?;
    for (name, rest) in given.entries("templates")? {
        let path = format!("/{api}/{name}");
        deletion.delete(given, &path, &path)?;
        // On serverless nobody but an operator may delete by pattern.
        if let [Value::Bool(true), Value::String(pattern)] = rest
            && !pattern.is_empty()
            && !given.is_serverless_for_users()
        {
            deletion.delete_pattern(given, &encode(pattern))?;
        }
    }
    Ok(deletion)
}

pub(super) fn delete_component(given: &Given<'_>) -> Result<Deletion, RunnerError> {
    let mut deletion = Deletion::new(given, Wildcards::Never)?;
    for name in given.list("templates")? {
        let path = format!("/_component_template/{}", encode(&query_text(name)));
        deletion.delete(given, &path, &path)?;
    }
    Ok(deletion)
}
