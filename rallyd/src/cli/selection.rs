//! Which of the daemons of this machine a command means.

use std::net::IpAddr;
use std::path::Path;

use super::arguments::Selection;
use super::error::CommandError;
use crate::address::resolve_node;
use crate::instance::{Instance, Running};

/// A daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunningInstance {
    pub(super) instance: Instance,
    pub(super) pid: Option<u32>,
}

/// A [`Selection`] whose names are resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    ips: Option<Vec<IpAddr>>,
    port: Option<u16>,
    shown: Option<String>,
}

impl Filter {
    pub(super) async fn new(selection: &Selection) -> Result<Self, CommandError> {
        let ips = match &selection.node_ip {
            Some(node) => Some(resolve_node(node).await?),
            None => None,
        };
        let shown = match (&selection.node_ip, selection.port) {
            (None, None) => None,
            (Some(node), None) => Some(format!("at {node}")),
            (None, Some(port)) => Some(format!("on port {port}")),
            (Some(node), Some(port)) => Some(format!("at {node} on port {port}")),
        };
        Ok(Self { ips, port: selection.port, shown })
    }

    /// Every selected instance that was ever started.
    pub(super) fn known(&self, directory: &Path) -> Result<Vec<Instance>, CommandError> {
        let mut instances = Instance::all(directory)?;
        instances.retain(|instance| {
            let address = instance.address();
            self.ips.as_ref().is_none_or(|ips| ips.contains(&address.ip()))
                && self.port.is_none_or(|port| port == address.port())
        });
        Ok(instances)
    }

    /// Every selected instance that runs; perhaps none.
    pub(super) fn running(&self, directory: &Path) -> Result<Vec<RunningInstance>, CommandError> {
        let mut result = Vec::new();
        for instance in self.known(directory)? {
            if let Some(Running { pid }) = instance.running()? {
                result.push(RunningInstance { instance, pid });
            }
        }
        Ok(result)
    }

    pub(super) fn not_running(&self) -> CommandError {
        CommandError::NotRunning { wanted: self.shown.clone() }
    }
}

/// The only one of `running`.
pub(super) fn only(running: Vec<RunningInstance>) -> Result<Option<RunningInstance>, CommandError> {
    if running.len() > 1 {
        return Err(CommandError::Several(running.iter().map(|running| running.instance.address()).collect()));
    }
    Ok(running.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn selected(directory: &Path, node_ip: Option<&str>, port: Option<u16>) -> Vec<String> {
        let selection = Selection { node_ip: node_ip.map(|node| node.parse().unwrap()), port };
        let filter = Filter::new(&selection).await.unwrap();
        filter.running(directory).unwrap().iter().map(|running| running.instance.address().to_string()).collect()
    }

    #[tokio::test]
    async fn daemons_are_selected_by_address_and_port() {
        let rally = tempfile::tempdir().unwrap();
        let locks = ["127.0.0.1:1900", "127.0.0.1:1901", "[::1]:1900"].map(|address| {
            let instance = Instance::new(rally.path(), address.parse().unwrap());
            instance.create().unwrap();
            instance.lock().unwrap()
        });
        let directory = rally.path();
        assert_eq!(selected(directory, None, None).await, ["127.0.0.1:1900", "127.0.0.1:1901", "[::1]:1900"]);
        assert_eq!(selected(directory, Some("127.0.0.1"), None).await, ["127.0.0.1:1900", "127.0.0.1:1901"]);
        assert_eq!(selected(directory, None, Some(1900)).await, ["127.0.0.1:1900", "[::1]:1900"]);
        assert_eq!(selected(directory, Some("::1"), Some(1900)).await, ["[::1]:1900"]);
        let several = only(Filter::default().running(directory).unwrap()).unwrap_err().to_string();
        assert!(several.contains("127.0.0.1:1900, 127.0.0.1:1901, [::1]:1900; choose one"), "{several}");
        drop(locks);
        assert_eq!(selected(directory, None, None).await, [""; 0]);
        assert_eq!(only(Vec::new()).unwrap(), None);
    }
}
