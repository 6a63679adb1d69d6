//! API keys of the simulated clients' own, for `create_api_key_per_client`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::{Authorization, Client, Clients, InvalidClientOptions, Request};
use crate::RunnerError;

/// How often a key is asked for, and how long is waited in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

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
    #[error("cannot create an API key for client {client}")]
    Refused { client: u32, source: RunnerError },
}

/// What the cluster answers to a new key.
#[derive(Deserialize)]
struct Created {
    id: String,
    api_key: String,
}

impl ApiKeys {
    /// Makes a key for each simulated client if the options of the cluster that ordinary operations use want it.
    pub(crate) async fn create(clients: &Clients, numbers: &[u32]) -> Result<Self, SetupError> {
        let mut keys = Self::default();
        let Some(cluster) = cluster_with_keys(clients) else { return Ok(keys) };
        for &client in numbers {
            let key = create(cluster, client).await.map_err(|source| match source {
                RunnerError::Api { status: 405, .. } => SetupError::SecurityDisabled,
                source => SetupError::Refused { client, source },
            });
            match key {
                Ok(key) => drop(keys.by_client.insert(client, key)),
                Err(error) => {
                    // Those that were made would be left behind; the error that is told is the first one.
                    let _ = keys.delete(clients).await;
                    return Err(error);
                }
            }
        }
        Ok(keys)
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
        let request = Request::new("DELETE", "/_security/api_key").json(json!({ "ids": ids }).to_string());
        cluster.request(&request).await.map(drop)
    }
}

/// The cluster that ordinary operations use, if its clients want keys of their own.
fn cluster_with_keys(clients: &Clients) -> Option<&Rc<Client>> {
    clients.get(super::DEFAULT_CLUSTER).filter(|cluster| cluster.options.create_api_key_per_client)
}

async fn create(cluster: &Client, client: u32) -> Result<(String, Authorization), RunnerError> {
    let body = json!({ "name": format!("rally-client-{client}") }).to_string();
    let request = Request::new("PUT", "/_security/api_key").json(body);
    let mut attempt = 1;
    let response = loop {
        match cluster.request(&request).await {
            Ok(response) => break response,
            Err(error @ RunnerError::Api { status: 405, .. }) => return Err(error),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
        sleep(PAUSE).await;
    };
    let created: Created = serde_json::from_slice(&response.body)
        .map_err(|error| RunnerError::Other(format!("the answer to a new API key makes no sense: {error}")))?;
    let encoded = BASE64_STANDARD.encode(format!("{}:{}", created.id, created.api_key));
    Ok((created.id, Authorization::api_key(&encoded)))
}
