//! API keys of the simulated clients' own, for `create_api_key_per_client`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Authorization, Client, Clients, InvalidClientOptions, Request};
use crate::{ErrorClass, RunnerError};

/// How often a key is asked for, and how long is waited in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Keys that are asked for at the same time.
const AT_ONCE: usize = 32;

/// How long all keys of a worker may take together, to be made and to be deleted.
const CREATION: Duration = Duration::from_secs(60);
pub(crate) const DELETION: Duration = Duration::from_secs(5);

/// How long keys that are asked for already may take when the race ends: they are deleted then.
const LAST_KEYS: Duration = Duration::from_secs(1);

/// The keys of the clients of one driver, with their ids.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys {
    by_client: BTreeMap<u32, (String, Authorization)>,
}

/// Clients could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Options(#[from] InvalidClientOptions),
    #[error("cannot create an API key for each client: security is disabled in the cluster under test")]
    SecurityDisabled,
    #[error("the race has ended before there was an API key for each client")]
    Ended,
    #[error("cannot create an API key for client {client}")]
    Refused { client: u32, source: RunnerError },
    #[error(
        "cannot create API keys: the cluster under test has given {made} of {wanted} within {limit:?}; those that it gives \
         later stay there, under the name `rally-client-…`"
    )]
    Late { made: usize, wanted: usize, limit: Duration },
}

/// What the cluster answers to a new key.
#[derive(Deserialize)]
struct Created {
    id: String,
    api_key: String,
}

impl ApiKeys {
    /// Makes a key for each simulated client if the options of the cluster that ordinary operations use want it. If there
    /// cannot be one for each, also because the race has `ended`, there is none for any.
    pub(crate) async fn create(
        clients: &Clients,
        numbers: &[u32],
        ended: &CancellationToken,
    ) -> Result<Self, SetupError> {
        Self::create_within(clients, numbers, ended, CREATION).await
    }

    async fn create_within(
        clients: &Clients,
        numbers: &[u32],
        ended: &CancellationToken,
        limit: Duration,
    ) -> Result<Self, SetupError> {
        let Some(cluster) = cluster_with_keys(clients) else { return Ok(Self::default()) };
        let (made, failure) = (RefCell::new(BTreeMap::new()), RefCell::new(None));
        // Those that are asked for already are waited for, since they would be left behind otherwise.
        let all = stream::iter(numbers).for_each_concurrent(AT_ONCE, async |&client| {
            match create(cluster, client, &failure).await {
                Ok(key) => made.borrow_mut().extend(key.map(|key| (client, key))),
                Err(error) => drop(failure.borrow_mut().get_or_insert(error)),
            }
        });
        let enough = async {
            if timeout(limit, ended.cancelled()).await.is_ok() {
                failure.borrow_mut().get_or_insert(SetupError::Ended);
                sleep(LAST_KEYS).await;
            }
        };
        let is_late = tokio::select! {
            () = all => false,
            () = enough => true,
        };
        let keys = Self { by_client: made.into_inner() };
        let late = || SetupError::Late { made: keys.by_client.len(), wanted: numbers.len(), limit };
        match failure.into_inner().or_else(|| is_late.then(late)) {
            None => Ok(keys),
            Some(error) => {
                // What is told is why there are no keys, whether these can be deleted or not.
                let _ = keys.delete(clients).await;
                Err(error)
            }
        }
    }

    /// The key of a client; none if its options do not want one.
    pub(crate) fn of(&self, client: u32) -> Option<&Authorization> {
        self.by_client.get(&client).map(|(_, key)| key)
    }

    /// Deletes all keys.
    ///
    /// # Errors
    ///
    /// What the cluster says; then they are still there.
    pub(crate) async fn delete(&self, clients: &Clients) -> Result<(), RunnerError> {
        let Some(cluster) = cluster_with_keys(clients).filter(|_| !self.by_client.is_empty()) else { return Ok(()) };
        let ids: Vec<&String> = self.by_client.values().map(|(id, _)| id).collect();
        let delete = async |which: Value| {
            let request = Request::new("DELETE", "/_security/api_key").json(which.to_string());
            cluster.request(&request).await.map(drop)
        };
        let delete_all = async {
            match delete(json!({ "ids": ids })).await {
                // Servers before version 7.10 take one at a time.
                Err(RunnerError::Api { status: 400, .. }) => {
                    for id in ids {
                        delete(json!({ "id": id })).await?;
                    }
                    Ok(())
                }
                result => result,
            }
        };
        let late = |_| RunnerError::Transport {
            class: ErrorClass::Timeout,
            description: format!("there was no answer within {DELETION:?}"),
        };
        timeout(DELETION, delete_all).await.map_err(late)?
    }
}

/// The cluster that ordinary operations use, if its clients want keys of their own.
fn cluster_with_keys(clients: &Clients) -> Option<&Rc<Client>> {
    clients.get(super::DEFAULT_CLUSTER).filter(|cluster| cluster.options.create_api_key_per_client)
}

/// Asks for a key; none if it failed for another client, so that all is in vain.
async fn create(
    cluster: &Client,
    client: u32,
    failure: &RefCell<Option<SetupError>>,
) -> Result<Option<(String, Authorization)>, SetupError> {
    let body = json!({ "name": format!("rally-client-{client}") }).to_string();
    let request = Request::new("PUT", "/_security/api_key").json(body);
    let refused = |source| SetupError::Refused { client, source };
    let mut attempt = 1;
    let response = loop {
        if failure.borrow().is_some() {
            return Ok(None);
        }
        match cluster.request(&request).await {
            Ok(response) => break response,
            Err(RunnerError::Api { status: 405, .. }) => return Err(SetupError::SecurityDisabled),
            // Who may not do it now may not do it in a second.
            Err(error @ RunnerError::Api { status: 400..=404, .. }) => return Err(refused(error)),
            Err(error) if attempt == ATTEMPTS => return Err(refused(error)),
            Err(_) => attempt += 1,
        }
        sleep(PAUSE).await;
    };
    let created: Created = serde_json::from_slice(&response.body).map_err(|error| {
        refused(RunnerError::response(format!("the answer to a new API key makes no sense: {error}")))
    })?;
    let encoded = BASE64_STANDARD.encode(format!("{}:{}", created.id, created.api_key));
    Ok(Some((created.id, Authorization::api_key(&encoded))))
}

#[cfg(test)]
mod tests {
    use rally_core::RacePlan;
    use rally_core::track::{Challenge, Operation, Task, Track};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn keys_that_never_come_are_waited_for_up_to_a_limit() {
        // Connections wait in its queue.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let challenge = Challenge::builder("c").task(Task::builder(Operation::builder("sleep")));
        let track = Track::builder("t").challenge(challenge).build().unwrap();
        let mut plan = RacePlan::new(track, "c").target([listener.local_addr().unwrap().to_string()]);
        let options = json!({ "create_api_key_per_client": true, "basic_auth_user": "u", "basic_auth_password": "p" });
        plan.client_options.insert("default".to_owned(), options.as_object().unwrap().clone());
        let clients = Clients::new(&plan, 0, &Rc::default()).unwrap();
        let (ended, limit) = (CancellationToken::new(), Duration::from_millis(30));
        let error = ApiKeys::create_within(&clients, &[0, 1, 2], &ended, limit).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("has given 0 of 3 within 30ms"), "{text}");
    }
}
