//! The simulated clients of one worker with their connections, which live as long as the race.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::step::RaceContext;
use crate::RequestTimer;
use crate::client::{ApiKeys, Clients, SetupError};

/// Clients that open their connections at the same time, so that no host has to accept all of them at once.
const AT_ONCE: usize = 32;

/// How long opening all connections may take. Those that are missing then are opened by the first requests.
const WARM_UP: Duration = Duration::from_secs(30);

/// The way of one simulated client to what it runs operations against.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// The cluster, if there is a lane for each.
    pub(crate) cluster: Option<Rc<str>>,
    pub(crate) clients: Rc<Clients>,
    pub(crate) timer: Rc<RequestTimer>,
    /// Repairs that were counted already.
    counted: Rc<Cell<(u64, u64)>>,
}

impl Lane {
    /// Connections that were opened again and requests that were sent again since this was last asked, whichever task
    /// they belong to; none if there were none.
    pub(crate) fn new_repairs(&self) -> Option<(u64, u64)> {
        let all = self.clients.reconnects_and_retries();
        let counted = self.counted.replace(all);
        (all != counted).then(|| (all.0 - counted.0, all.1 - counted.1))
    }
}

/// The simulated clients of one worker.
#[derive(Debug)]
pub(crate) struct Roster {
    /// With the user's own authentication, for what no simulated client does.
    origin: Clients,
    lanes: BTreeMap<u32, Rc<[Lane]>>,
    keys: ApiKeys,
    /// The race ends, so that no connection is needed any more.
    ended: CancellationToken,
}

impl Roster {
    /// Makes clients of these numbers, with API keys of their own if the options want it, and opens their connections.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if options make no sense, the cluster gives no keys, or the race ends before it has. A host that does
    /// not answer is no error.
    pub(crate) async fn gather(race: &RaceContext, numbers: &[u32]) -> Result<Self, SetupError> {
        let RaceContext { plan, ended, .. } = race;
        let mut origin = Clients::new(plan, 0, &Rc::default())?;
        // Without an answer it stays with what is known.
        let _ = ended.run_until_cancelled(origin.get_acquainted(plan)).await;
        let keys = ApiKeys::create(&origin, numbers, ended).await?;
        // It is not asked again before the race is over.
        origin.disconnect();
        let lane = |number: u32, cluster: Option<&str>| {
            let timer = Rc::<RequestTimer>::default();
            let clients = origin.sibling(number, &timer, keys.of(number));
            let clients = cluster.map_or_else(|| clients.clone(), |cluster| clients.only(cluster));
            Lane { cluster: cluster.map(Rc::from), clients: Rc::new(clients), timer, counted: Rc::default() }
        };
        let lanes = numbers.iter().map(|&number| {
            let lanes = match plan.multi_cluster {
                false => Rc::from([lane(number, None)]),
                true => origin.clusters().map(|cluster| lane(number, Some(cluster))).collect(),
            };
            (number, lanes)
        });
        let lanes = lanes.collect();
        let roster = Self { origin, lanes, keys, ended: ended.clone() };
        roster.warm_up().await;
        Ok(roster)
    }

    /// Opens the connections that are missing, or that were closed in the meantime.
    pub(crate) async fn warm_up(&self) {
        let lanes = stream::iter(self.lanes.values().flat_map(|lanes| lanes.iter()));
        let all = lanes.for_each_concurrent(AT_ONCE, async |lane| lane.clients.warm_up().await);
        // What is not there by then is waited for by the requests, and measured.
        let _ = self.ended.run_until_cancelled(timeout(WARM_UP, all)).await;
    }

    /// The lanes of a client: one, or one for each cluster if all are loaded at the same time.
    pub(crate) fn lanes(&self, client: u32) -> Rc<[Lane]> {
        self.lanes.get(&client).cloned().unwrap_or_default()
    }

    /// Gives back what the clients had of the cluster. Says what is left behind, if anything.
    pub(crate) async fn disband(&self) -> Option<String> {
        let problem = self.keys.delete(&self.origin).await.err()?;
        Some(format!("the API keys of the clients could not be deleted and are left in the cluster: {problem}"))
    }
}
