//! Where log lines go: standard error, which in the background is the daemon's log file.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal};
use std::panic;

use tracing::error;
use tracing_subscriber::EnvFilter;

/// Sets up logging for a daemon. `RALLY_LOG` takes directives such as `debug` or `rally_net=trace,info`.
///
/// Panics are logged too, so that those in spawned futures leave a trace.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("RALLY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let text = panic.payload_as_str().unwrap_or("no message");
        error!(location = panic.location().map(tracing::field::display), %backtrace, "panicked: {text}");
    }));
}
