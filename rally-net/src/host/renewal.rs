//! Certificates are renewed before they end, without a restart.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::{info, warn};

use super::shared::{Shared, Side};
use crate::identity::Credentials;
use crate::rpc::{Access, Request, Services};
use crate::status::HostRole;

/// A host looks at its certificate this often, because its wall clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Between two attempts to renew; the last third of a certificate's life has room for many.
const RETRY: Duration = Duration::from_secs(10);

/// How long the coordinator may take to sign.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the coordinator for a new certificate for the host that the old one names.
#[derive(Debug, Serialize, Deserialize)]
struct RenewCertificate {
    /// The certificate signing request, in DER.
    request: Vec<u8>,
}

impl Request for RenewCertificate {
    const NAME: &'static str = "cluster/renew";
    /// The host's certificate and the authority's, in DER, or why there are none.
    type Answer = Result<Vec<Vec<u8>>, String>;
}

/// Offers renewal to members.
pub(super) fn offer(services: &mut Services, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    services.answer(Access::AnyHost, move |caller, RenewCertificate { request }| {
        let shared = Arc::clone(&shared);
        async move {
            match &shared.side {
                Side::Coordinator(side) => {
                    side.issue(&request, caller.host(), HostRole::Member).map_err(|error| error.to_string())
                }
                Side::Member(_) => Err("only the coordinator issues certificates".to_owned()),
            }
        }
    });
}

/// Renews this host's certificate whenever it is time, until the host stops.
pub(super) async fn keep_certificate(shared: Arc<Shared>) {
    let mut changed = shared.credentials_changed();
    loop {
        let wait = match shared.credentials().map(|credentials| credentials.renew_at()) {
            None => LONGEST_WAIT,
            Some(renew_at) => match renew_at.duration_since(SystemTime::now()) {
                Ok(early) => early.min(LONGEST_WAIT),
                Err(_) => match renew(&shared).await {
                    Ok(()) => continue,
                    Err(why) => {
                        warn!(why, "the certificate could not be renewed yet");
                        RETRY.min(remaining(&shared) / 4).max(Duration::from_millis(100))
                    }
                },
            },
        };
        tokio::select! {
            () = shared.end.cancelled() => return,
            () = sleep(wait) => (),
            // The host has joined. The sender lives in `shared`, so this never fails.
            _ = changed.changed() => (),
        }
    }
}

/// How long the certificate is still good.
fn remaining(shared: &Shared) -> Duration {
    let expires_at = shared.credentials().map_or(SystemTime::UNIX_EPOCH, |credentials| credentials.expires_at());
    expires_at.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn renew(shared: &Shared) -> Result<(), String> {
    let old = shared.credentials().ok_or("this host has not joined yet")?;
    let (key, request) = Credentials::request().map_err(|error| error.to_string())?;
    let chain = match &shared.side {
        Side::Coordinator(side) => {
            side.issue(&request, old.host(), HostRole::Coordinator).map_err(|error| error.to_string())?
        }
        Side::Member(_) => {
            let peer = shared.coordinator_peer().ok_or("the coordinator is not connected")?;
            peer.call(&RenewCertificate { request }, TIMEOUT).await.map_err(|error| error.to_string())??
        }
    };
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let new = Credentials::from_issued(key, chain, old.authority()).map_err(|error| error.to_string())?;
    new.store(&shared.directory).map_err(|error| error.to_string())?;
    info!(expires_at = ?new.expires_at(), "the certificate is renewed");
    shared.install(new)
}
