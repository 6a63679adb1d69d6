//! A target that counts what it is asked for, by who asks: what really happened, beside what a race says of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How long an answer takes; so no client makes more than a hundred requests in a second.
const TAKES: Duration = Duration::from_millis(10);

/// What it says of itself, and to everything else.
const ABOUT: &str = r#"{"name": "counter", "cluster_name": "tests", "version": {"number": "8.15.0"}}"#;

/// Counts requests to paths of races; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CountingTarget {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    /// When requests arrived, by the race that they belong to and the host that they came from.
    arrivals: Mutex<BTreeMap<(String, IpAddr), Vec<SystemTime>>>,
    /// Requests of each host in a race that are answered; all if there is no number.
    answers: watch::Sender<Option<u64>>,
}

impl CountingTarget {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { arrivals: Mutex::default(), answers: watch::Sender::new(None) });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        Self { address, shared, _runtime: runtime }
    }

    pub(crate) fn target_hosts(&self) -> String {
        format!("--target-hosts={}", self.address)
    }

    /// Where requests of a race go.
    pub(crate) fn path(race: &str) -> String {
        format!("/race/{race}")
    }

    /// When the requests of a host in a race arrived, in order.
    pub(crate) fn arrivals(&self, race: &str, host: IpAddr) -> Vec<SystemTime> {
        self.shared.arrivals.lock().unwrap().get(&(Self::path(race), host)).cloned().unwrap_or_default()
    }

    /// How many requests of a host arrived in a race.
    pub(crate) fn requests(&self, race: &str, host: IpAddr) -> u64 {
        self.arrivals(race, host).len() as u64
    }

    /// Lets every request wait for its answer, until [`CountingTarget::answer`].
    pub(crate) fn hold(&self) {
        self.hold_after(0);
    }

    /// As [`CountingTarget::hold`], but so many requests of each host in a race are answered.
    pub(crate) fn hold_after(&self, requests: u64) {
        self.shared.answers.send_replace(Some(requests));
    }

    pub(crate) fn answer(&self) {
        self.shared.answers.send_replace(None);
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> impl IntoResponse {
    if uri.path().starts_with(&CountingTarget::path("")) {
        let key = (uri.path().to_owned(), peer.ip());
        let number = {
            let mut arrivals = shared.arrivals.lock().unwrap();
            let arrivals = arrivals.entry(key).or_default();
            arrivals.push(SystemTime::now());
            arrivals.len() as u64
        };
        let mut answers = shared.answers.subscribe();
        answers.wait_for(|answered| answered.is_none_or(|answered| number <= answered)).await.unwrap();
        tokio::time::sleep(TAKES).await;
    }
    let headers = [("x-elastic-product", "Elasticsearch"), (header::CONTENT_TYPE.as_str(), "application/json")];
    (headers, ABOUT)
}
