//! What a host is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rally_core::{Coordinator, HostFacts, LoadDriver, Provisioner};

use crate::identity::{DEFAULT_CERTIFICATE_LIFETIME, JoinToken};
use crate::membership::Timing;
use crate::rpc::Services;

/// How to start a [`Host`](super::Host).
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Where the host keeps its identity, readable by its owner alone; made if it is missing. No two hosts share one.
    pub directory: PathBuf,
    /// The address to bind. Port 0 takes a free one.
    pub address: SocketAddr,
    /// The host's place in the cluster.
    pub place: Place,
    /// What the host says about itself.
    pub facts: HostFacts,
    /// What the host does for others; nothing by default.
    pub roles: Roles,
    /// What else it answers, beside its roles and what every host answers; nothing by default. Their names must not be
    /// those of requests of this crate, which begin with `cluster/`, `file/`, `lease/` or the name of a role.
    pub services: Services,
    /// When it waits how long for what.
    pub timing: Timing,
}

impl HostConfig {
    /// A host with [`Timing::default`], no roles and no services of its own.
    pub fn new(directory: impl Into<PathBuf>, address: SocketAddr, place: Place) -> Self {
        Self {
            directory: directory.into(),
            address,
            place,
            facts: HostFacts::default(),
            roles: Roles::default(),
            services: Services::new(),
            timing: Timing::default(),
        }
    }
}

/// The place that a host takes in its cluster.
#[derive(Clone, Debug)]
pub enum Place {
    /// The host that all others follow; it keeps the cluster's authority.
    Coordinator {
        /// How long the certificates are valid that it issues; 30 days unless there is a reason.
        certificate_lifetime: Duration,
    },
    /// A host that follows a coordinator.
    Member {
        /// Where the coordinator is.
        coordinator: SocketAddr,
        /// How to join, unless the host has a certificate already.
        token: TokenSource,
    },
}

impl Place {
    /// A coordinator that issues certificates for 30 days.
    pub const fn coordinator() -> Self {
        Self::Coordinator { certificate_lifetime: DEFAULT_CERTIFICATE_LIFETIME }
    }
}

/// Where a host that joins has its token from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// There is none; a certificate must be there already.
    None,
    /// The user gave it.
    Given(JoinToken),
    /// The directory of a coordinator of the same user on this machine, which may not have been started yet.
    CoordinatorDirectory(PathBuf),
}

/// The roles that a host plays for others, as far as it plays any.
#[derive(Clone, Default)]
pub struct Roles {
    /// Applies load for the coordinator.
    pub load_driver: Option<Arc<dyn LoadDriver>>,
    /// Runs nodes for the coordinator.
    pub provisioner: Option<Arc<dyn Provisioner>>,
    /// Owns races for any host; only on the coordinator.
    pub coordinator: Option<Arc<dyn Coordinator>>,
}

impl Roles {
    /// The names of the roles that are there, as hosts tell each other.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let names = [
            ("load-driver", self.load_driver.is_some()),
            ("provisioner", self.provisioner.is_some()),
            ("coordinator", self.coordinator.is_some()),
        ];
        names.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
    }
}

impl std::fmt::Debug for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.capabilities()).finish()
    }
}
