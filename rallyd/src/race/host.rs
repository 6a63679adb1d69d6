//! A host of a cluster that plays in races.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rally_core::StopMode;
use rally_driver::Registry;
use rally_net::{Host, HostConfig, Place, StartError};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::cluster::{RaceKeeping, RaceRoles};
use super::coordinator::RaceCoordinator;
use super::registry;
use crate::archive::Archive;
use crate::facts::host_facts;
use crate::settings::ReportingSettings;

/// How long a race may take to end before its host does.
const STOP_RACE_WITHIN: Duration = Duration::from_secs(3);

/// How long a role may hold on to the host before it is looked again, when the host ends.
const HELD_FOR: Duration = Duration::from_millis(5);

/// A [`Host`] that applies load for its coordinator, and owns races if it is the coordinator. Dropping it ends all of it.
pub struct RaceHost {
    host: Arc<Host>,
    roles: RaceRoles,
}

impl fmt::Debug for RaceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceHost").field("host", &self.host).field("roles", &self.roles).finish()
    }
}

impl RaceHost {
    /// Starts a host with Rally's operations. It says what this machine is, unless `config` has facts with a name. In its
    /// directory, corpora are kept in `data`, and a coordinator archives races in `races`.
    ///
    /// # Errors
    ///
    /// As [`Host::start`].
    pub async fn start(mut config: HostConfig) -> Result<Self, StartError> {
        if config.facts.name.is_empty() {
            config.facts = host_facts();
        }
        let data = config.directory.join("data");
        let keeping = matches!(config.place, Place::Coordinator { .. }).then(|| RaceKeeping {
            archive: Archive::new(config.directory.join("races")),
            reporting: Box::new(|| Ok(ReportingSettings::default())),
        });
        Self::start_with(config, registry(), data, keeping).await
    }

    /// Starts a host with these operations; a coordinator keeps races.
    pub(crate) async fn start_with(
        mut config: HostConfig,
        registry: Arc<Registry>,
        data_dir: PathBuf,
        keeping: Option<RaceKeeping>,
    ) -> Result<Self, StartError> {
        let roles = RaceRoles::new(config.facts.clone(), registry, &config.directory, data_dir, keeping);
        config.roles = roles.roles();
        roles.serve(&mut config.services);
        let host = Arc::new(Host::start(config).await?);
        roles.attach(&host);
        Ok(Self { host, roles })
    }

    /// The host itself.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What it plays in races.
    pub(crate) fn roles(&self) -> &RaceRoles {
        &self.roles
    }

    /// The owner of races; none on a member.
    #[must_use]
    pub fn coordinator(&self) -> Option<&Arc<RaceCoordinator>> {
        self.roles.coordinator.as_ref()
    }

    /// Ends the race that this host owns, then the host, `within` a time for each of them.
    pub async fn stop(self, within: Duration) {
        let Self { mut host, roles } = self;
        if let Some(coordinator) = &roles.coordinator {
            coordinator.stop(StopMode::Now, STOP_RACE_WITHIN.min(within)).await;
        }
        // Roles only hold on to the host while they do something with it.
        let alone = async {
            loop {
                match Arc::try_unwrap(host) {
                    Ok(host) => return host,
                    Err(shared) => host = shared,
                }
                sleep(HELD_FOR).await;
            }
        };
        match timeout(STOP_RACE_WITHIN.min(within), alone).await {
            Ok(host) => host.stop(within).await,
            Err(_) => warn!("a role does not let go of the host; it ends without a goodbye"),
        }
    }
}
