//! What a host says about itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RaceId;
use crate::role::error::Role;

/// Facts about one host, stated when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The machine's host name.
    pub name: String,
    /// The version of the daemon, such as `0.1.0`.
    pub version: String,
    /// Logical CPU cores that the daemon may use.
    pub cores: u32,
    /// Physical memory in bytes.
    pub memory: u64,
    /// Operating system, kernel and architecture, such as `Linux 6.1.0 x86_64`.
    pub platform: String,
}

/// What a host is doing at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Nothing for anyone.
    #[default]
    Idle,
    /// It plays a role in a race.
    Racing {
        /// The race.
        race: RaceId,
        /// The roles that this host plays in it.
        roles: Vec<Role>,
    },
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Racing { race, roles } => {
                for (i, role) in roles.iter().enumerate() {
                    write!(f, "{}{role}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, " of race {race}")
            }
        }
    }
}
