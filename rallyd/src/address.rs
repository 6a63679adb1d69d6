//! Which addresses a daemon and its coordinator have.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long a name server may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// An IP address or a host name, perhaps with a port: `10.0.0.1`, `::1`, `db1:1901`, `[::1]:1901`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: Option<u16>,
}

/// The text names neither an address nor a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address; write an IP address or a host name, perhaps with a port (`10.0.0.1:1901`, `[::1]:1901`)"
)]
pub struct ParseHostPortError(String);

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseHostPortError(text.to_owned());
        // An IPv6 address may stand without brackets as long as it has no port.
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(error)?;
            if !host.contains(':') {
                return Err(error());
            }
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(error)?) })
        } else if text.matches(':').count() > 1 {
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let is_ipv6 = || host.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
        let is_name = || {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
        };
        if !(if host.contains(':') { is_ipv6() } else { is_name() }) {
            return Err(error());
        }
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|&port| port != 0).ok_or_else(error)?),
            None => None,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl HostPort {
    /// The port, if it names its own.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Where a daemon is bound and where its coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The daemon's own address.
    pub node: SocketAddr,
    /// The coordinator's address; equal to `node` if the daemon is the coordinator.
    pub coordinator: SocketAddr,
}

/// The addresses could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// A node address was given with a port of its own.
    #[error("the node's address `{0}` has a port; give the port with --port")]
    NodeWithPort(HostPort),
    /// The name server does not know the name.
    #[error("host name `{host}` cannot be resolved")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name server did not answer.
    #[error(
        "resolving host name `{host}` took longer than {LOOKUP_DEADLINE:?}; check the name server or give an IP address"
    )]
    LookupTimeout {
        /// The name.
        host: String,
    },
    /// Others could not connect to such an address.
    #[error("{given} is not the address of one host; give an address at which the other hosts can reach it")]
    NotOneHost {
        /// The address.
        given: IpAddr,
    },
    /// One address is IPv4 and the other IPv6.
    #[error(
        "`{node}` and the coordinator `{coordinator}` have no address family in common; both need IPv4 or both IPv6"
    )]
    Families {
        /// The node as given.
        node: HostPort,
        /// The coordinator as given.
        coordinator: HostPort,
    },
    /// The kernel has no route to the coordinator.
    #[error("there is no route to the coordinator {coordinator}; check the address and the network, or give --node-ip")]
    NoRoute {
        /// The coordinator.
        coordinator: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Finds the addresses of a daemon on `port` and of its coordinator, which uses the same port unless it names its own.
///
/// Without `node` it is the coordinator's if this machine has that, otherwise the local address from which packets to
/// the coordinator leave.
///
/// # Errors
///
/// If a name cannot be resolved, an address is no single host's, the families differ or there is no route.
pub async fn resolve(node: Option<&HostPort>, coordinator: &HostPort, port: u16) -> Result<Addresses, AddressError> {
    let coordinators = lookup(coordinator, port).await?;
    let Some(node) = node else {
        return route(&coordinators, port);
    };
    if node.port.is_some() {
        return Err(AddressError::NodeWithPort(node.clone()));
    }
    let nodes = lookup(node, port).await?;
    let pair = coordinators.iter().find_map(|&coordinator| {
        let node = *nodes.iter().find(|node| node.is_ipv4() == coordinator.is_ipv4())?;
        Some(Addresses { node, coordinator })
    });
    pair.ok_or_else(|| AddressError::Families { node: node.clone(), coordinator: coordinator.clone() })
}

/// The IP addresses that `node`, as given with `--node-ip`, stands for.
///
/// # Errors
///
/// If it has a port, cannot be resolved or is no single host's address.
pub async fn resolve_node(node: &HostPort) -> Result<Vec<IpAddr>, AddressError> {
    if node.port.is_some() {
        return Err(AddressError::NodeWithPort(node.clone()));
    }
    Ok(lookup(node, 0).await?.iter().map(SocketAddr::ip).collect())
}

async fn lookup(host: &HostPort, default_port: u16) -> Result<Vec<SocketAddr>, AddressError> {
    let port = host.port.unwrap_or(default_port);
    let found: Vec<_> = match timeout(LOOKUP_DEADLINE, lookup_host((&*host.host, port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(source)) => return Err(AddressError::Lookup { host: host.host.clone(), source }),
        Err(_) => return Err(AddressError::LookupTimeout { host: host.host.clone() }),
    };
    match found.iter().map(SocketAddr::ip).find(|ip| ip.is_unspecified() || ip.is_multicast() || is_broadcast(*ip)) {
        Some(given) => Err(AddressError::NotOneHost { given }),
        None => Ok(found),
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// Asks the kernel from which local address packets to the first reachable coordinator leave; none is sent.
fn route(coordinators: &[SocketAddr], port: u16) -> Result<Addresses, AddressError> {
    let mut failure = None;
    for &coordinator in coordinators {
        match local_address(coordinator) {
            Ok(mut node) => {
                node.set_port(port);
                return Ok(Addresses { node, coordinator });
            }
            Err(source) => failure = failure.or(Some(AddressError::NoRoute { coordinator, source })),
        }
    }
    Err(failure.expect("a resolved name has at least one address"))
}

/// The address to reach `peer` from: its own if it is one of this machine, for which the kernel may take another.
fn local_address(peer: SocketAddr) -> io::Result<SocketAddr> {
    if is_of_this_machine(peer) {
        return Ok(peer);
    }
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    socket.local_addr()
}

/// Whether the address can be bound here, and is not just because the kernel was told to allow any.
pub(crate) fn is_of_this_machine(mut address: SocketAddr) -> bool {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let any = fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    let tells = address.ip().is_loopback() || !any.is_ok_and(|any| any.trim() == "1");
    address.set_port(0);
    tells && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:1901", "10.0.0.1", Some(1901)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:1901", "::1", Some(1901)),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("db-1.example.org", "db-1.example.org", None),
            ("db1:1901", "db1", Some(1901)),
        ] {
            let parsed: HostPort = text.parse().expect(text);
            assert_eq!(parsed, HostPort { host: host.to_owned(), port }, "{text}");
        }
        for text in
            ["", ":1900", "[::1", "[::1]x", "[db1]:1", "::g", "db1:", "db1:0", "db1:70000", "db 1", "http://db1"]
        {
            assert_eq!(text.parse::<HostPort>(), Err(ParseHostPortError(text.to_owned())));
        }
    }

    async fn resolved(node: &str, coordinator: &str, port: u16) -> Result<(String, String), String> {
        let node = (!node.is_empty()).then(|| node.parse().unwrap());
        match resolve(node.as_ref(), &coordinator.parse().unwrap(), port).await {
            Ok(found) => Ok((found.node.to_string(), found.coordinator.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn the_coordinator_uses_the_nodes_port_unless_it_names_its_own() {
        for (node, coordinator, expected) in [
            ("127.0.0.1", "127.0.0.1", ("127.0.0.1:1900", "127.0.0.1:1900")),
            ("127.0.0.2", "127.0.0.1:1901", ("127.0.0.2:1900", "127.0.0.1:1901")),
            ("::1", "[::1]:1901", ("[::1]:1900", "[::1]:1901")),
            ("", "127.0.0.1", ("127.0.0.1:1900", "127.0.0.1:1900")),
            ("", "127.0.0.2", ("127.0.0.2:1900", "127.0.0.2:1900")),
            ("", "127.0.0.1:1901", ("127.0.0.1:1900", "127.0.0.1:1901")),
        ] {
            let (node_address, coordinator_address) = resolved(node, coordinator, 1900).await.expect(coordinator);
            assert_eq!((&*node_address, &*coordinator_address), expected);
        }
    }

    #[tokio::test]
    async fn addresses_that_cannot_work_are_refused_with_a_sentence() {
        for (node, coordinator, part) in [
            ("0.0.0.0", "127.0.0.1", "0.0.0.0 is not the address of one host"),
            ("::", "::1", ":: is not the address of one host"),
            ("127.0.0.1", "224.0.0.1", "224.0.0.1 is not the address of one host"),
            ("127.0.0.1", "::1", "no address family in common"),
            ("127.0.0.1:1900", "127.0.0.1", "give the port with --port"),
            ("", "255.255.255.255", "255.255.255.255 is not the address of one host"),
        ] {
            let error = resolved(node, coordinator, 1900).await.expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }
}
