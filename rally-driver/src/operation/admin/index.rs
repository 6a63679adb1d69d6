//! Indices and data streams.

use super::super::given::Given;
use super::super::request::{encode, query_text};
use super::Requests;
use super::deletion::{Deletion, Wildcards};
use crate::RunnerError;

pub(super) fn create_index(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let indices = given.entries("indices")?.into_iter();
    let requests = indices.map(|(name, rest)| {
        given.call("PUT", format!("/{name}")).body(rest.first().cloned().unwrap_or_default()).prepare()
    });
    Ok(requests.collect::<Result<Vec<_>, _>>()?.into())
}

pub(super) fn delete_index(given: &Given<'_>) -> Result<Deletion, RunnerError> {
    let mut deletion = Deletion::new(given, Wildcards::Always)?;
    for name in given.list("indices")? {
        let path = format!("/{}", encode(&query_text(name)));
        deletion.delete(given, &path, &path)?;
    }
    Ok(deletion)
}

pub(super) fn create_data_stream(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let names = given.list("data-streams")?.iter();
    let requests = names.map(|name| given.call("PUT", data_stream(&encode(&query_text(name)))).prepare());
    Ok(requests.collect::<Result<Vec<_>, _>>()?.into())
}

pub(super) fn delete_data_stream(given: &Given<'_>) -> Result<Deletion, RunnerError> {
    let mut deletion = Deletion::new(given, Wildcards::Never)?;
    for name in given.list("data-streams")? {
        let name = encode(&query_text(name));
        deletion.delete(given, &format!("/{name}"), &data_stream(&name))?;
    }
    Ok(deletion)
}

fn data_stream(name: &str) -> String {
    format!("/_data_stream/{name}")
}
