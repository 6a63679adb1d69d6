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
    /// How the daemon was built: `release` or `debug`; none if that is not known, as with all that follows.
    pub flavor: Option<String>,
    /// The distribution of the operating system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub distribution: Option<String>,
    /// The model of the CPU.
    pub cpu: Option<String>,
    /// Logical cores of the machine, of which the daemon may use [`cores`](Self::cores).
    pub logical_cores: Option<u32>,
    /// Physical cores of the machine.
    pub physical_cores: Option<u32>,
    /// The frequency governor of the cores, such as `performance`; several with commas in between if cores differ.
    pub governor: Option<String>,
    /// The clock source of the kernel, such as `tsc`.
    pub clock_source: Option<String>,
    /// What the machine is a guest of, such as `QEMU`; `none` if it is no guest.
    pub virtualization: Option<String>,
}

impl HostFacts {
    /// All texts, each with what it is: for whoever checks or shows what a peer says.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        // A field that is added is not to be forgotten here.
        let Self {
            name,
            version,
            platform,
            flavor,
            distribution,
            cpu,
            governor,
            clock_source,
            virtualization,
            cores: _,
            memory: _,
            logical_cores: _,
            physical_cores: _,
        } = self;
        let always = [("host name", name), ("version", version), ("platform", platform)];
        let known = [
            ("flavor", flavor),
            ("distribution", distribution),
            ("CPU", cpu),
            ("governor", governor),
            ("clock source", clock_source),
            ("virtualization", virtualization),
        ];
        let known = known.into_iter().filter_map(|(what, text)| Some((what, text.as_deref()?)));
        always.into_iter().map(|(what, text)| (what, text.as_str())).chain(known)
    }
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
