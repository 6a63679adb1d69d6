//! `rallyd demo`.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use clap::Parser;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{Arguments, Command, DemoArguments, RaceCommand};
use super::error::CommandError;
use super::race::race;
use super::selection::RunningInstance;
use super::stop::{DEFAULT_WITHIN, stop_instance};
use crate::background;
use crate::console::Console;
use crate::daemon::DaemonConfig;
use crate::demo::{StandIn, write_corpus, write_track};
use crate::exit::Exit;
use crate::instance::{Instance, StartSettings};

/// Hosts of the demo's cluster; all of them drive.
const HOSTS: usize = 3;

/// How long a host may take to find its coordinator on the same machine.
const JOIN_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

const NEXT: &str = "\
What to try next, with a directory that has a track.json, and Elasticsearch or OpenSearch at port 9200:
  rallyd race --track-path=DIRECTORY --target-hosts=localhost:9200               from this process alone
  rallyd start --coordinator-ip=127.0.0.1                                        a daemon of your own
  rallyd race --track-path=DIRECTORY --target-hosts=localhost:9200 --detach      leaves the race to the daemon
  rallyd status                                                                  shows the race and every host
  rallyd attach                                                                  shows its progress again
  rallyd list races                                                              shows the races of the archive
  rallyd report RACE-ID                                                          writes a race as a page for a browser
  rallyd compare --baseline=RACE-ID --contender=RACE-ID                          shows what changed between two races
  rallyd race --help, rallyd start --help                                        for races over several machines";

/// Shows a race in small, and removes everything but its archive.
pub(super) async fn demo(directory: &Path, arguments: &DemoArguments, console: Console) -> Result<Exit, CommandError> {
    // Below Rally's own directory, so that the archive can be moved out of it.
    fs::create_dir_all(directory).map_err(CommandError::Demo)?;
    let home = tempfile::Builder::new().prefix("demo-").tempdir_in(directory).map_err(CommandError::Demo)?;
    let target = StandIn::start().await.map_err(CommandError::Demo)?;
    let instances = instances(home.path()).map_err(CommandError::Demo)?;
    let raced = tokio::select! {
        raced = run(&home, &instances, &target, arguments, console) => raced,
        // Ctrl-C has its meaning while a race is watched.
        () = terminated() => Err(CommandError::Interrupted("")),
    };
    let stopped = stop(&instances).await;
    if let Some(race) = keep_archive(home.path(), directory).map_err(CommandError::Demo)? {
        console.info(&format!("the race is archived in {}", race.display()));
    }
    let exit = raced?;
    stopped?;
    if exit == Exit::Success {
        console.info(NEXT);
    }
    Ok(exit)
}

async fn run(
    home: &TempDir,
    instances: &[Instance; HOSTS],
    target: &StandIn,
    arguments: &DemoArguments,
    console: Console,
) -> Result<Exit, CommandError> {
    let track = home.path().join("track");
    write_track(&track).map_err(CommandError::Demo)?;
    let corpus = home.path().join("benchmarks/data/places/documents.json");
    write_corpus(&corpus, arguments.documents).map_err(CommandError::Demo)?;

    start(home.path(), instances).await?;
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_string()).collect();
    console.info(&format!("a cluster of {HOSTS} daemons is up: {}", addresses.join(", ")));
    console.info(&format!(
        "the target at {} is a stand-in that knows a little of Elasticsearch's API; its figures say nothing about any \
         search engine",
        target.address()
    ));
    // The member stands for the user's machine: neither the coordinator nor alone.
    let command = race_command(&track, target, &addresses, instances[1].address().port(), arguments);
    Box::pin(race(home.path(), &command, true, console)).await
}

/// The race as a user would ask for it.
fn race_command(
    track: &Path,
    target: &StandIn,
    drivers: &[String],
    port: u16,
    DemoArguments { documents, seconds }: &DemoArguments,
) -> RaceCommand {
    let line = [
        "rallyd".to_owned(),
        "race".to_owned(),
        format!("--track-path={}", track.display()),
        format!("--track-params=document_count:{documents},search_seconds:{seconds}"),
        format!("--target-hosts={}", target.address()),
        format!("--load-driver-hosts={}", drivers.join(",")),
        format!("--port={port}"),
    ];
    match Arguments::try_parse_from(line).map(|arguments| arguments.command) {
        Ok(Command::Race(command)) => *command,
        other => unreachable!("the demo's command line is one of a race: {other:?}"),
    }
}

/// A daemon for each host, at ports that are free now; the first one is the coordinator.
fn instances(home: &Path) -> io::Result<[Instance; HOSTS]> {
    let sockets = (0..HOSTS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
    Ok(std::array::from_fn(|index| Instance::new(home, addresses[index])))
}

async fn start(home: &Path, [coordinator, members @ ..]: &[Instance; HOSTS]) -> Result<(), CommandError> {
    let address = coordinator.address();
    background::launch(&config(home, coordinator, address)).await?;
    let configs: Vec<_> = members.iter().map(|member| config(home, member, address)).collect();
    futures_util::future::try_join_all(configs.iter().map(background::launch)).await?;
    Ok(())
}

fn config(home: &Path, instance: &Instance, coordinator: SocketAddr) -> DaemonConfig {
    DaemonConfig {
        rally_directory: home.to_owned(),
        address: instance.address(),
        coordinator,
        token: None,
        certificate_lifetime: None,
        start_settings: StartSettings { coordinator: coordinator.to_string() },
        log: Some(instance.log()),
        wait: JOIN_WITHIN,
    }
}

/// Stops what runs, the coordinator last.
async fn stop(instances: &[Instance; HOSTS]) -> Result<(), CommandError> {
    // That they are gone is only worth a word if it was not easy.
    let console = Console { quiet: true };
    let mut failure = Ok(());
    for instance in instances.iter().rev() {
        if let Some(running) = instance.running()? {
            let running = RunningInstance { instance: instance.clone(), pid: running.pid };
            failure = failure.and(stop_instance(&running, DEFAULT_WITHIN, console).await);
        }
    }
    failure
}

/// Moves the archive of the race to where archives are, and says where it is now; none if there is no archive.
fn keep_archive(home: &Path, directory: &Path) -> io::Result<Option<std::path::PathBuf>> {
    let races = home.join("benchmarks/races");
    let Some(race) = fs::read_dir(races).ok().and_then(|mut races| races.next()) else { return Ok(None) };
    let race = race?;
    let kept = directory.join("benchmarks/races");
    fs::create_dir_all(&kept)?;
    let kept = kept.join(race.file_name());
    fs::rename(race.path(), &kept)?;
    Ok(Some(kept))
}

/// Waits until the terminal is gone, or somebody wants this process to end.
async fn terminated() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::hangup()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}
