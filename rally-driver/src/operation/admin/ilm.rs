//! Policies of the index lifecycle.

use super::super::given::Given;
use super::Requests;
use crate::RunnerError;

pub(super) fn create(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let body = given.wanted("body")?;
    let has_policy = body.get("policy").and_then(|policy| policy.as_object()).is_some_and(|policy| !policy.is_empty());
    if !has_policy {
        return Err(given.invalid("`body` must have the key `policy` at its root, with the policy in it"));
    }
    Ok(given.call("PUT", policy(given)?).body(body.clone()).prepare()?.into())
}

pub(super) fn delete(given: &Given<'_>) -> Result<Requests, RunnerError> {
    Ok(given.call("DELETE", policy(given)?).ignoring(404).prepare()?.into())
}

fn policy(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("/_ilm/policy/{}", given.name("policy-name")?))
}
