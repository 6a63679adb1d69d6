//! One request each: refresh, pipelines, cluster settings, downsampling.

use serde_json::json;

use super::super::given::Given;
use super::Requests;
use crate::RunnerError;

pub(super) fn refresh(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let path = given.name_if_any("index").map_or_else(String::new, |index| format!("/{index}"));
    Ok(given.call("POST", format!("{path}/_refresh")).prepare()?.into())
}

pub(super) fn put_pipeline(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let call =
        given.call("PUT", format!("/_ingest/pipeline/{}", given.name("id")?)).body(given.wanted("body")?.clone());
    let call = call.query("master_timeout", given.value("master-timeout")).query("timeout", given.value("timeout"));
    Ok(call.prepare()?.into())
}

pub(super) fn put_settings(given: &Given<'_>) -> Result<Requests, RunnerError> {
    Ok(given.call("PUT", "/_cluster/settings").body(given.wanted("body")?.clone()).prepare()?.into())
}

pub(super) fn downsample(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let (source, target) = (given.name("source-index")?, given.name("target-index")?);
    let mut body = json!({ "fixed_interval": given.wanted("fixed-interval")? });
    if let Some(method) = given.get("sampling-method") {
        body["sampling_method"] = method.clone();
    }
    Ok(given.call("POST", format!("/{source}/_downsample/{target}")).body(body).prepare()?.into())
}
