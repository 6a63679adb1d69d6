//! How much memory an idle member costs its coordinator: a real coordinator in this process, and in another one members
//! that are connected, say hello and send heartbeats.
//!
//! `cargo bench -p benches --bench idle_members`

#![expect(clippy::print_stdout, reason = "the sentence is the result")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use benches::{credentials, scratch};
use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint};
use rally_core::{Activity, Epoch, HostFacts};
use rally_net::protocol::{Datagram, Hello, HelloRefusal, Welcome};
use rally_net::{
    Authority, COORDINATOR_SERVER_NAME, Host, HostConfig, HostRole, LocalTime, Place, client_config, frame, socket,
};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

const MEMBERS: usize = 1000;

/// Members may take this long to connect, one after the other.
const CONNECTED_WITHIN: Duration = Duration::from_secs(120);

/// Heartbeats go on for this long before memory is measured.
const IDLE: Duration = Duration::from_secs(10);

/// In the environment of the process that plays the members: the coordinator's address and directory.
const ADDRESS: &str = "RALLY_BENCH_COORDINATOR";
const DIRECTORY: &str = "RALLY_BENCH_DIRECTORY";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match (std::env::var(ADDRESS), std::env::var_os(DIRECTORY)) {
        (Ok(address), Some(directory)) => runtime.block_on(play_members(address.parse()?, Path::new(&directory))),
        _ => runtime.block_on(measure()),
    }
}

async fn measure() -> Result<()> {
    let directory = scratch()?;
    let config = HostConfig::new(directory.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Place::coordinator());
    let coordinator = Host::start(config).await?;
    let before = resident()?;
    let mut members = Command::new(std::env::current_exe()?)
        .env(ADDRESS, coordinator.address().to_string())
        .env(DIRECTORY, directory.path())
        .spawn()?;
    let deadline = Instant::now() + CONNECTED_WITHIN;
    while coordinator.status().await.hosts.len() <= MEMBERS {
        ensure!(Instant::now() < deadline && members.try_wait()?.is_none(), "the members did not connect");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(IDLE).await;
    let after = resident()?;
    let status = coordinator.status().await;
    members.kill()?;
    members.wait()?;
    let silent = status.hosts.iter().filter(|host| host.last_heard > Duration::from_secs(2)).count();
    ensure!(silent == 0, "{silent} members are not heard of");
    let each = (after - before) as f64 / MEMBERS as f64 / 1024.0;
    println!("{MEMBERS} idle members: {each:.1} KiB each (target: < 64 KiB), on top of {} KiB", before >> 10);
    Ok(())
}

/// Bytes of memory that this process occupies.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

async fn play_members(coordinator: SocketAddr, directory: &Path) -> Result<()> {
    let authority = Authority::open_or_create(&directory.join("authority"), SystemTime::now())?;
    let endpoint = socket::endpoint(socket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?, &[0; 32])?;
    let mut members = JoinSet::new();
    for number in 1..=MEMBERS {
        let tls = client_config(&credentials(&authority, number as u128, HostRole::Member)?)?;
        let connection = connect(&endpoint, socket::client(tls)?, coordinator, number).await?;
        members.spawn(stay(connection));
    }
    members.join_next().await.context("there are members")??
}

async fn connect(
    endpoint: &Endpoint,
    config: ClientConfig,
    coordinator: SocketAddr,
    number: usize,
) -> Result<Connection> {
    let connection = endpoint.connect_with(config, coordinator, COORDINATOR_SERVER_NAME)?.await?;
    let hello = Hello {
        epoch: Epoch(1),
        facts: HostFacts { name: format!("member-{number}"), cores: 2, ..HostFacts::default() },
        build: String::new(),
        capabilities: vec!["load-driver".to_owned()],
        wall_clock: SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos().try_into()?,
    };
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_chunk(Bytes::from(frame::encode(&hello)?)).await?;
    send.finish()?;
    let answer = frame::read(&mut receive).await?.context("no answer")?;
    frame::decode::<Result<Welcome, HelloRefusal>>(&answer)??;
    Ok(connection)
}

/// Sends heartbeats as often as a host does.
async fn stay(connection: Connection) -> Result<()> {
    let start = Instant::now();
    let mut heartbeat = interval(rally_net::Timing::default().heartbeat);
    loop {
        tokio::select! {
            _ = heartbeat.tick() => {
                let sent = LocalTime::from_nanos(start.elapsed().as_nanos().try_into()?);
                let datagram = Datagram::Heartbeat { sent, activity: Activity::Idle, clock: None, wall_shift: 0 };
                connection.send_datagram(postcard::to_stdvec(&datagram)?.into())?;
            }
            answer = connection.read_datagram() => drop(answer?),
        }
    }
}
