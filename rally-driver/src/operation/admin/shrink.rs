//! `shrink-index`: moves all shards of an index to one node, and then shrinks it.

use std::time::Duration;

use async_trait::async_trait;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::given::{Given, unexpected};
use super::super::request::encode;
use super::{Action, at, number};
use crate::client::PreparedRequest;
use crate::{ErrorClass, Outcome, RunnerError};

/// How long is waited before the cluster is asked whether shards move: it has to begin first.
const BEFORE_WAITING: Duration = Duration::from_secs(3);

/// How long is waited after a question that the cluster did not answer in time.
const AFTER_TIMEOUT: Duration = Duration::from_millis(500);

/// Says on which node shards of an index must be.
const NODE: &str = "index.routing.allocation.require._name";

/// Says that nothing may be written into an index.
const READ_ONLY: &str = "index.blocks.write";

pub(super) struct Shrink {
    sources: PreparedRequest,
    node: Option<String>,
    target: String,
    body: Value,
}

pub(super) fn shrink_index(given: &Given<'_>) -> Result<Shrink, RunnerError> {
    let target_body = given.wanted("target-body")?;
    let mut body = target_body.clone();
    let settings = body.as_object_mut().map(|body| {
        let settings = body.entry("settings").or_insert(Value::Null);
        if settings.is_null() {
            *settings = json!({});
        }
        settings
    });
    let Some(Value::Object(settings)) = settings else {
        return Err(given.wrong("target-body", "an object whose `settings` are an object, too", target_body));
    };
    // What made the source ready must not stay with the target.
    settings.insert(NODE.to_owned(), Value::Null);
    settings.insert(READ_ONLY.to_owned(), Value::Null);
    Ok(Shrink {
        sources: given.aside("GET", format!("/{}", given.name("source-index")?)).prepare()?,
        node: given.text("shrink-node")?.map(str::to_owned),
        target: given.name("target-index")?,
        body,
    })
}

#[async_trait(?Send)]
impl Action for Shrink {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let sources = given.ask(&self.sources).await?;
        let sources = sources.as_object().ok_or_else(|| unexpected(format!("these are no indices: {sources}")))?;
        let sources: Vec<&String> = sources.keys().collect();
        let nodes = match &self.node {
            Some(node) => vec![node.clone()],
            None => data_nodes(given).await?,
        };
        let stem = common_prefix(&sources);
        for source in &sources {
            let node = nodes.choose(&mut rand::rng()).ok_or_else(|| {
                given.assertion("no node of the cluster has the role `data`; name one in `shrink-node`")
            })?;
            let settings = json!({ "settings": { NODE: node, READ_ONLY: "true" } });
            let path = format!("/{}/_settings", encode(source));
            let call = given.aside("PUT", path).query("preserve_existing", true).body(settings);
            given.send(&call.prepare()?).await?;
            wait_until_shards_stay(given, &encode(source)).await?;

            let target = format!("{}{}", self.target, encode(&source[stem..]));
            let shrink = given.call("PUT", format!("/{}/_shrink/{target}", encode(source))).body(self.body.clone());
            given.send(&shrink.prepare()?).await?;
            wait_until_shards_stay(given, &target).await?;
        }
        Ok(Outcome { weight: sources.len() as u64, ..Outcome::default() })
    }
}

async fn data_nodes(given: &Given<'_>) -> Result<Vec<String>, RunnerError> {
    let answer = given.ask(&given.aside("GET", "/_nodes").prepare()?).await?;
    let nodes = at(&answer, "nodes").as_object().into_iter().flatten();
    let has_data = |node: &&Value| at(node, "roles").as_array().is_some_and(|roles| roles.contains(&json!("data")));
    let nodes = nodes.map(|(_, node)| node).filter(has_data);
    Ok(nodes.filter_map(|node| at(node, "name").as_str().map(str::to_owned)).collect())
}

/// Asks again for as long as the cluster does not answer in time.
async fn wait_until_shards_stay(given: &Given<'_>, index: &str) -> Result<(), RunnerError> {
    let path = format!("/_cluster/health/{index}");
    let health = given.aside("GET", path).query("wait_for_no_relocating_shards", true).prepare()?;
    sleep(BEFORE_WAITING).await;
    loop {
        match given.ask(&health).await {
            Ok(health) if number(&health, "relocating_shards") == 0 => return Ok(()),
            // Since version 8, the cluster says in this way that it has waited for long enough.
            Ok(health) if *at(&health, "timed_out") == Value::Bool(true) => sleep(AFTER_TIMEOUT).await,
            Ok(_) => return Err(given.assertion(format!("shards of `{index}` are still moving"))),
            Err(RunnerError::Api { status: 408, .. } | RunnerError::Transport { class: ErrorClass::Timeout, .. }) => {
                sleep(AFTER_TIMEOUT).await
            }
            Err(error) => return Err(error),
        }
    }
}

/// The length in bytes of what all names begin with.
fn common_prefix(names: &[&String]) -> usize {
    let Some((first, rest)) = names.split_first() else { return 0 };
    let is_common = |length: usize| rest.iter().all(|name| name.get(..length) == first.get(..length));
    let ends = first.char_indices().map(|(start, char)| start + char.len_utf8());
    ends.take_while(|&end| is_common(end)).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_of_a_name_is_what_the_others_do_not_begin_with() {
        for (names, expected) in [
            (vec!["logs-1", "logs-2"], 5),
            (vec!["logs", "logs-2"], 4),
            (vec!["logs-1"], 6),
            (vec!["a", "b"], 0),
            (vec!["ä1", "ä2"], 2),
            (vec!["ä", "å"], 0),
            (vec![], 0),
        ] {
            let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(common_prefix(&owned.iter().collect::<Vec<_>>()), expected, "{names:?}");
        }
    }
}
