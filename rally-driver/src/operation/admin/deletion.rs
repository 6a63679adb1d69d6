//! Deletes what is there, and allows wildcards in names for as long as it takes.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::super::given::Given;
use super::{Action, at};
use crate::client::PreparedRequest;
use crate::{Outcome, RunnerError};

/// The cluster setting that forbids wildcards in the names of indices that are to be deleted.
const SETTING: &str = "action.destructive_requires_name";

/// When [`SETTING`] is turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcards {
    /// Not at all.
    Never,
    /// From the start. Turning it off and on again counts as no work.
    Always,
    /// Before the first pattern. Turning it off and on again counts as work.
    ForPatterns,
}

/// Deletions, one after the other. The weight is what was deleted.
#[derive(Debug)]
pub(super) struct Deletion {
    steps: Vec<Step>,
    wildcards: Wildcards,
    only_if_exists: bool,
}

#[derive(Debug)]
struct Step {
    /// The question whether it is there, if that is to be asked first.
    exists: Option<PreparedRequest>,
    delete: PreparedRequest,
    is_pattern: bool,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Done {
    weight: u64,
    /// What the setting was before it was turned off.
    before: Option<Value>,
}

impl Deletion {
    pub(super) fn new(given: &Given<'_>, wildcards: Wildcards) -> Result<Self, RunnerError> {
        Ok(Self {
            steps: Vec::new(),
            wildcards: if given.is_serverless_for_users() { Wildcards::Never } else { wildcards },
            only_if_exists: given.flag("only-if-exists", false)?,
        })
    }

    /// Adds what has one path to ask for and one to delete.
    pub(super) fn delete(&mut self, given: &Given<'_>, ask: &str, path: &str) -> Result<(), RunnerError> {
        let delete = given.call("DELETE", path);
        let (exists, delete) = if self.only_if_exists {
            (Some(given.aside("HEAD", ask).ignoring(404).prepare()?), delete.prepare()?)
        } else {
            (None, delete.ignoring(404).prepare()?)
        };
        self.steps.push(Step { exists, delete, is_pattern: false });
        Ok(())
    }

    /// Adds all indices whose names fit a pattern.
    pub(super) fn delete_pattern(&mut self, given: &Given<'_>, pattern: &str) -> Result<(), RunnerError> {
        let delete = given.aside("DELETE", format!("/{pattern}")).prepare()?;
        self.steps.push(Step { exists: None, delete, is_pattern: true });
        Ok(())
    }

    async fn delete_all(&self, given: &Given<'_>, done: &mut Done) -> Result<(), RunnerError> {
        if self.wildcards == Wildcards::Always {
            done.before = Some(set(given, Value::Bool(false)).await?);
        }
        for Step { exists, delete, is_pattern } in &self.steps {
            if let Some(exists) = exists
                && given.send(exists).await?.status == 404
            {
                continue;
            }
            if *is_pattern && done.before.is_none() {
                done.before = Some(set(given, Value::Bool(false)).await?);
                done.weight += 1;
            }
            given.send(delete).await?;
            done.weight += 1;
        }
        Ok(())
    }
}

/// Sets [`SETTING`] for as long as the cluster lives, and gives what it was before: null if it was not set like that.
async fn set(given: &Given<'_>, value: Value) -> Result<Value, RunnerError> {
    let settings = given.aside("GET", "/_cluster/settings").query("flat_settings", true).prepare()?;
    let settings = given.ask(&settings).await?;
    let body = json!({ "transient": { SETTING: value } });
    given.send(&given.aside("PUT", "/_cluster/settings").body(body).prepare()?).await?;
    Ok(at(&settings, "transient").get(SETTING).cloned().unwrap_or_default())
}

#[async_trait(?Send)]
impl Action for Deletion {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let mut done = Done::default();
        let result = self.delete_all(given, &mut done).await;
        if let Some(before) = done.before.take() {
            // Whatever else went wrong, the setting is put back.
            let restored = set(given, before).await;
            result.and(restored)?;
            done.weight += u64::from(self.wildcards == Wildcards::ForPatterns);
        } else {
            result?;
        }
        Ok(Outcome { weight: done.weight, ..Outcome::default() })
    }
}
