//! `enrich-policy`: creates and executes policies that enrich documents.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::super::given::Given;
use super::super::request::encode;
use super::Action;
use crate::client::PreparedRequest;
use crate::{Outcome, RunnerError};

/// All policies at once, phase by phase.
pub(super) struct EnrichPolicies {
    deletions: Vec<PreparedRequest>,
    creations: Vec<PreparedRequest>,
    refresh: PreparedRequest,
    executions: Vec<PreparedRequest>,
}

pub(super) fn enrich_policy(given: &Given<'_>) -> Result<EnrichPolicies, RunnerError> {
    let policies = given.wanted("policies")?;
    let named = |policies: &Value| policies.as_object().filter(|policies| !policies.is_empty()).cloned();
    let policies = named(policies)
        .ok_or_else(|| given.wrong("policies", "an object with at least one policy by name", policies))?;
    let mut all = EnrichPolicies {
        deletions: Vec::new(),
        creations: Vec::new(),
        refresh: given.aside("POST", "/_all/_refresh").prepare()?,
        executions: Vec::new(),
    };
    let deletes = given.flag("delete", true)?;
    for (name, body) in policies {
        let path = format!("/_enrich/policy/{}", encode(&name));
        if deletes {
            all.deletions.push(given.aside("DELETE", path.as_str()).ignoring(404).prepare()?);
        }
        all.creations.push(given.aside("PUT", path.as_str()).body(body).prepare()?);
        let execution = given.call("PUT", format!("{path}/_execute")).query("wait_for_completion", true);
        all.executions.push(execution.prepare()?);
    }
    Ok(all)
}

#[async_trait(?Send)]
impl Action for EnrichPolicies {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        for deletion in &self.deletions {
            given.send(deletion).await?;
        }
        try_join_all(self.creations.iter().map(|creation| given.send(creation))).await?;
        given.send(&self.refresh).await?;
        try_join_all(self.executions.iter().map(|execution| given.send(execution))).await?;
        Ok(Outcome { weight: self.executions.len() as u64, ..Outcome::default() })
    }
}
