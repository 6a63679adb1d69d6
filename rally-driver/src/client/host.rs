//! A host of a cluster under test, and whether it answers.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use http::HeaderValue;

/// How long a host is put aside after its first failure; the time doubles with each further one.
const FIRST_BREAK: Duration = Duration::from_secs(1);

/// The longest time that a host is put aside.
const LONGEST_BREAK: Duration = Duration::from_secs(30);

const DEFAULT_PORT: u16 = 9200;

/// The port of a URL that says `https` and none.
const HTTPS_PORT: u16 = 443;

/// Where one node of the cluster answers.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// A path that all requests begin with, such as that of a proxy. Without a slash at its end.
    pub(super) prefix: String,
    /// The value of the header `host`.
    pub(super) authority: HeaderValue,
    failures: Cell<u32>,
    aside_until: Cell<Option<Instant>>,
}

impl Host {
    /// Reads `host`, `host:port`, `[::1]:9200` or a URL.
    pub(super) fn parse(text: &str, use_ssl: bool) -> Option<Self> {
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (use_ssl, rest),
            Some(_) => return None,
            None => (use_ssl, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority: http::uri::Authority = authority.parse().ok()?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let prefix = path.trim_end_matches('/');
        // A user and a password belong into the client options.
        if authority.as_str().contains('@') {
            return None;
        }
        let default_port = if text.starts_with("https://") { HTTPS_PORT } else { DEFAULT_PORT };
        let port = authority.port_u16().unwrap_or(default_port);
        let address = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
        Some(Self {
            authority: address.parse().ok()?,
            name: (!name.is_empty()).then_some(name)?,
            port,
            tls,
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            failures: Cell::new(0),
            aside_until: Cell::new(None),
        })
    }

    /// Puts the host aside for a while.
    pub(super) fn failed(&self) {
        let failures = self.failures.get();
        let pause = FIRST_BREAK.saturating_mul(1 << failures.min(5)).min(LONGEST_BREAK);
        self.failures.set(failures + 1);
        self.aside_until.set(Some(Instant::now() + pause));
    }

    pub(super) fn answered(&self) {
        if self.aside_until.take().is_some() {
            self.failures.set(0);
        }
    }

    /// Until when the host is put aside; none if it may be asked.
    pub(super) fn aside_until(&self) -> Option<Instant> {
        self.aside_until.get()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.authority.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_with_and_without_scheme_port_and_path() {
        for (text, use_ssl, expected) in [
            ("localhost", false, Some(("localhost", 9200, false, ""))),
            ("10.0.0.1:39200", true, Some(("10.0.0.1", 39200, true, ""))),
            ("https://es.example.org:443/cluster/", false, Some(("es.example.org", 443, true, "/cluster"))),
            ("http://[::1]:9201", false, Some(("::1", 9201, false, ""))),
            ("https://es.example.org", false, Some(("es.example.org", 443, true, ""))),
            ("me:secret@es", false, None),
            ("ftp://x", false, None),
            (":9200", false, None),
        ] {
            let host = Host::parse(text, use_ssl);
            let found = host.as_ref().map(|host| (host.name.as_str(), host.port, host.tls, host.prefix.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_break_up_to_its_limit() {
        let host = Host::parse("es", false).unwrap();
        let fails_for = |seconds: u64| {
            let (break_, before) = (Duration::from_secs(seconds), Instant::now());
            host.failed();
            let until = host.aside_until().unwrap();
            assert!(until >= before + break_ && until <= Instant::now() + break_, "{seconds}");
        };
        [1, 2, 4, 8, 16, 30, 30].into_iter().for_each(fails_for);
        host.answered();
        assert_eq!(host.aside_until(), None);
        fails_for(1);
    }
}
