//! `rallyd start` and `rallyd restart`.

use std::env;
use std::net::SocketAddr;
use std::path::Path;

use rally_net::HostRole;
use serde_json::json;

use super::arguments::{ClusterArguments, Command, Format, Selection};
use super::error::CommandError;
use super::selection::{Filter, RunningInstance, only};
use super::stop::{DEFAULT_WITHIN, stop_instance};
use crate::address::{Addresses, resolve};
use crate::background;
use crate::console::Console;
use crate::daemon::{self, DaemonConfig, Joined, Up};
use crate::instance::{Instance, LockError, StartSettings};
use crate::logging;
use crate::sd_notify;
use crate::secret::Secret;
use crate::settings::{Flags, Notice, Settings};

/// Whether `command` becomes the daemon itself instead of starting one.
pub(super) fn stays_in_foreground(command: &Command) -> bool {
    let cluster = match command {
        Command::Start(start) => &start.cluster,
        Command::Restart(restart) => &restart.cluster,
        Command::Stop(_)
        | Command::Status(_)
        | Command::Token(_)
        | Command::Race(_)
        | Command::Demo(_)
        | Command::Attach(_)
        | Command::List(_)
        | Command::Delete(_)
        | Command::Compare(_)
        | Command::Report(_)
        | Command::Track(_)
        | Command::Daemon => return false,
    };
    is_foreground(cluster)
}

fn is_foreground(arguments: &ClusterArguments) -> bool {
    arguments.foreground || env::var("RALLY_RUNNING_IN_DOCKER").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

pub(super) async fn start(directory: &Path, arguments: ClusterArguments, console: Console) -> Result<(), CommandError> {
    let config = resolve_config(directory, &arguments, console).await?;
    let instance = Instance::new(directory, config.address);
    if let Some(running) = instance.running()? {
        return Err(LockError::AlreadyRunning { address: config.address, pid: running.pid }.into());
    }
    run(config, &arguments, console).await
}

pub(super) async fn restart(
    directory: &Path,
    mut arguments: ClusterArguments,
    console: Console,
) -> Result<(), CommandError> {
    let previous = previous(directory, &arguments).await?;
    if let Some(instance) = &previous {
        let address = instance.address();
        arguments.node_ip.get_or_insert_with(|| address.ip().to_string());
        arguments.port.get_or_insert_with(|| address.port().to_string());
        if let (None, Some(settings)) = (&arguments.coordinator_ip, instance.start_settings()?) {
            arguments.coordinator_ip = Some(settings.coordinator);
        }
    }
    // Resolved first, so that a mistake does not leave the machine without its daemon.
    let config = resolve_config(directory, &arguments, console).await?;
    let mut to_stop = vec![Instance::new(directory, config.address)];
    to_stop.extend(previous.filter(|instance| instance.address() != config.address));
    for instance in to_stop {
        if let Some(running) = instance.running()? {
            stop_instance(&RunningInstance { instance, pid: running.pid }, DEFAULT_WITHIN, console).await?;
        }
    }
    run(config, &arguments, console).await
}

/// The instance that is to be restarted: the one that runs, otherwise the one that ran, if there is no other.
async fn previous(directory: &Path, arguments: &ClusterArguments) -> Result<Option<Instance>, CommandError> {
    // A flag that makes no sense is reported when the settings are loaded.
    let selection = Selection {
        node_ip: arguments.node_ip.as_deref().and_then(|node| node.parse().ok()),
        port: arguments.port.as_deref().and_then(|port| port.parse().ok()),
    };
    let filter = Filter::new(&selection).await?;
    if let Some(running) = only(filter.running(directory)?)? {
        return Ok(Some(running.instance));
    }
    let mut known = filter.known(directory)?;
    // One that never came so far as to run is not worth a restart.
    known.retain(|instance| !matches!(instance.start_settings(), Ok(None)));
    match known.len() {
        0 | 1 => Ok(known.pop()),
        // Everything that the others could tell is given.
        _ if arguments.coordinator_ip.is_some() => Ok(None),
        _ => Err(CommandError::Several(known.iter().map(Instance::address).collect())),
    }
}

async fn resolve_config(
    directory: &Path,
    arguments: &ClusterArguments,
    console: Console,
) -> Result<DaemonConfig, CommandError> {
    let flags = Flags {
        node_ip: arguments.node_ip.clone(),
        coordinator_ip: arguments.coordinator_ip.clone(),
        port: arguments.port.clone(),
        token: arguments.token.clone().map(Secret::from),
    };
    let settings = settings(directory, &flags, console)?;
    let cluster = settings.cluster;
    let coordinator = cluster.coordinator_ip.ok_or_else(|| CommandError::NoCoordinator(directory.join("rally.ini")))?;
    let Addresses { node, coordinator: coordinator_address } =
        resolve(cluster.node_ip.as_ref(), &coordinator, cluster.port).await?;
    Ok(DaemonConfig {
        rally_directory: directory.to_owned(),
        address: node,
        coordinator: coordinator_address,
        token: cluster.join_token,
        certificate_lifetime: cluster.certificate_lifetime,
        start_settings: StartSettings { coordinator: coordinator.to_string() },
        log: (!is_foreground(arguments)).then(|| Instance::new(directory, node).log()),
        wait: arguments.wait,
    })
}

async fn run(config: DaemonConfig, arguments: &ClusterArguments, console: Console) -> Result<(), CommandError> {
    let (address, coordinator) = (config.address, config.coordinator);
    if is_foreground(arguments) {
        logging::init();
        let format = arguments.format;
        let up = |up: Up| {
            tell(address, coordinator, &up, console);
            // A closed output keeps no daemon from running.
            let _ = show(address, coordinator, &up, format, console);
            sd_notify::notify("READY=1");
        };
        return Ok(daemon::run(config, up).await?);
    }
    let up = background::launch(&config).await?;
    tell(address, coordinator, &up, console);
    show(address, coordinator, &up, arguments.format, console)
}

/// The same for programs.
fn show(
    address: SocketAddr,
    coordinator: SocketAddr,
    up: &Up,
    format: Format,
    console: Console,
) -> Result<(), CommandError> {
    if format == Format::Text {
        return Ok(());
    }
    let (joined, last_error) = match &up.coordinator {
        Joined::Yes => (true, None),
        Joined::NotYet { last_error } => (false, last_error.as_deref()),
    };
    let document = json!({
        "address": address,
        "pid": up.pid,
        "role": up.role,
        "coordinator": coordinator,
        "joined": joined,
        "last_error": last_error,
    });
    Ok(console.data(&format!("{document:#}"))?)
}

fn tell(address: SocketAddr, coordinator: SocketAddr, up: &Up, console: Console) {
    let pid = up.pid;
    match (&up.coordinator, up.role) {
        (Joined::Yes, HostRole::Coordinator) => {
            console.info(&format!("The coordinator is up at {address} (pid {pid})."));
        }
        (Joined::Yes, HostRole::Member) => {
            console
                .info(&format!("The daemon is up at {address} (pid {pid}) and follows the coordinator {coordinator}."));
        }
        (Joined::NotYet { last_error }, _) => {
            let error = last_error.as_deref().map_or_else(String::new, |error| format!(" ({error})"));
            console.warning(&format!(
                "The daemon is up at {address} (pid {pid}) and keeps trying to reach the coordinator {coordinator}, which \
                 has not answered yet{error}; check that it is started there and that UDP port {} is open in both \
                 directions.",
                coordinator.port()
            ));
        }
    }
}

/// Reads the settings, and tells the user what is odd about them.
pub(super) fn settings(directory: &Path, flags: &Flags, console: Console) -> Result<Settings, CommandError> {
    let (settings, notices) = Settings::load(directory, |name| env::var_os(name), flags)?;
    for notice in notices {
        match notice {
            Notice::Info(text) => console.info(&text),
            Notice::Warning(text) => console.warning(&text),
        }
    }
    Ok(settings)
}
