//! `rallyd demo`.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::pin;

use clap::Parser;
use rally_core::RaceId;
use rally_core::metrics::{MetricsStore, RaceDocument, RaceFilter};
use tempfile::TempDir;

use super::arguments::{Arguments, Command, DemoArguments, Format, RaceCommand};
use super::error::CommandError;
use super::race::race;
use super::races::archive;
use super::report::write_file;
use super::selection::RunningInstance;
use super::start::settings;
use super::stop::{DEFAULT_WITHIN, stop_instance};
use crate::archive::Archive;
use crate::background;
use crate::console::Console;
use crate::daemon::DaemonConfig;
use crate::demo::{StandIn, write_corpus, write_track};
use crate::exit::Exit;
use crate::instance::{Instance, StartSettings};
use crate::race::Interrupts;
use crate::report::RacePage;
use crate::settings::Flags;

/// Hosts of the demo's cluster; all of them drive.
const HOSTS: usize = 3;

/// What the track of the demo is called.
const TRACK: &str = "demo";

/// How long a host may take to find its coordinator on the same machine.
const JOIN_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Shows a race in small, and removes everything but its archive.
pub(super) async fn demo(directory: &Path, arguments: &DemoArguments, console: Console) -> Result<Exit, CommandError> {
    // Before there is anything that would have to be removed. Nothing interrupts the removal, which has an end of its own.
    let interrupts = Interrupts::new(true);
    let archive = archive(directory, &settings(directory, &Flags::default(), console)?);
    // Beside the archive, so that the race can be moved there.
    fs::create_dir_all(archive.path()).map_err(CommandError::Demo)?;
    let beside = archive.path().parent().unwrap_or(directory);
    let home = tempfile::Builder::new().prefix("demo-").tempdir_in(beside).map_err(CommandError::Demo)?;
    let target = StandIn::start().await.map_err(CommandError::Demo)?;
    let instances = instances(home.path()).map_err(CommandError::Demo)?;
    let raced = run(&home, &instances, &target, arguments, interrupts, console).await;
    let stopped = stop(&instances).await;
    let kept = keep_archive(home.path(), archive.path()).map_err(CommandError::Demo)?;
    let exit = raced?;
    stopped?;
    if let Some(race) = &kept {
        let page = archive.directory(race).join("report.html");
        write_file(&page, &RacePage::load(&archive, race)?.html())?;
        console.info(&format!("the race is archived in {}", archive.directory(race).display()));
        console.info(&format!("its report, for any browser, is {}", page.display()));
    }
    if let (Some(race), Exit::Success) = (&kept, exit) {
        console.info(&next(race, earlier(&archive, race).await?.as_ref()));
    }
    Ok(exit)
}

/// What to try next, as it can be typed here.
fn next(race: &RaceId, earlier: Option<&RaceId>) -> String {
    let rallyd = own_name();
    let (track, target) = ("--track=http_logs", "--target-hosts=localhost:9200");
    let mut lines = vec![
        "What to try next. With this race:".to_owned(),
        format!("  {rallyd} attach {race}"),
        "      shows its report again; --format=json is for programs".to_owned(),
    ];
    match earlier {
        Some(earlier) => lines.extend([
            format!("  {rallyd} compare --baseline={earlier} --contender={race}"),
            "      shows what changed since the demo before, and what of it is noise".to_owned(),
        ]),
        None => {
            lines.extend([format!("  {rallyd} demo"), "      once more; then two races can be compared".to_owned()])
        }
    }
    lines.extend([
        "With Elasticsearch or OpenSearch at port 9200:".to_owned(),
        format!("  {rallyd} list tracks"),
        "      what can be raced; --track-path=DIRECTORY takes a track of your own".to_owned(),
        format!("  {rallyd} race {track} {target} --test-mode"),
        "      races in this process; without --test-mode all documents are downloaded".to_owned(),
        format!("  {rallyd} start --coordinator-ip=127.0.0.1"),
        format!("  {rallyd} race {track} {target} --test-mode --detach"),
        format!("  {rallyd} status"),
        format!("  {rallyd} attach"),
        "      leave a race to a daemon, and look at it again".to_owned(),
        format!("  {rallyd} race --help, {rallyd} start --help"),
        "      for races over several machines".to_owned(),
    ]);
    lines.join("\n")
}

/// How this program can be started again: by its name if that leads to it, otherwise by its path.
fn own_name() -> String {
    let Ok(program) = env::current_exe() else { return "rallyd".to_owned() };
    let is_this = |path: &Path| path.canonicalize().is_ok_and(|path| path == program);
    let paths = env::var_os("PATH").unwrap_or_default();
    // The first one of this name is the one that runs.
    let by_name = env::split_paths(&paths).map(|path| path.join("rallyd")).find(|path| path.is_file());
    if by_name.is_some_and(|path| is_this(&path)) {
        return "rallyd".to_owned();
    }
    let here = env::current_dir().ok();
    let below = here.and_then(|here| program.strip_prefix(here).ok().map(Path::to_owned));
    let shown = below.unwrap_or(program).display().to_string();
    if shown.contains(char::is_whitespace) { format!("'{shown}'") } else { shown }
}

/// The demo before the one that was `race`, if it is still in the archive.
async fn earlier(archive: &Archive, race: &RaceId) -> Result<Option<RaceId>, CommandError> {
    let demos = RaceFilter { track: Some(TRACK.to_owned()), ..RaceFilter::default() };
    let found = archive.races(&demos, usize::MAX).await?;
    let other = |it: &RaceDocument| it.race_id != *race && it.results.is_some();
    Ok(found.races.into_iter().find(other).map(|it| it.race_id))
}

async fn run(
    home: &TempDir,
    instances: &[Instance; HOSTS],
    target: &StandIn,
    arguments: &DemoArguments,
    mut interrupts: Interrupts,
    console: Console,
) -> Result<Exit, CommandError> {
    let track = home.path().join(TRACK);
    write_track(&track).map_err(CommandError::Demo)?;
    let corpus = home.path().join("benchmarks/data/places/documents.json");
    write_corpus(&corpus, arguments.documents).map_err(CommandError::Demo)?;

    let mut started = pin!(start(home.path(), instances));
    tokio::select! {
        started = &mut started => started?,
        () = interrupts.next() => {
            // What is about to start can only be stopped once it has.
            started.await?;
            return Err(CommandError::Interrupted(""));
        }
    }
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_string()).collect();
    console.info(&format!("a cluster of {HOSTS} daemons is up: {}", addresses.join(", ")));
    console.info(&format!(
        "the target at {} is a stand-in that knows a little of Elasticsearch's API; its figures say nothing about any \
         search engine",
        target.address()
    ));
    // The member stands for the user's machine: neither the coordinator nor alone.
    let command = race_command(&track, target, &addresses, instances[1].address().port(), arguments);
    Box::pin(race(home.path(), &command, true, Some(interrupts), console)).await
}

/// The race as a user would ask for it.
fn race_command(
    track: &Path,
    target: &StandIn,
    drivers: &[String],
    port: u16,
    DemoArguments { documents, seconds, format }: &DemoArguments,
) -> RaceCommand {
    let mut line = vec![
        "rallyd".to_owned(),
        "race".to_owned(),
        format!("--track-path={}", track.display()),
        format!("--track-params=document_count:{documents},search_seconds:{seconds}"),
        format!("--target-hosts={}", target.address()),
        format!("--load-driver-hosts={}", drivers.join(",")),
        format!("--port={port}"),
    ];
    if *format == Format::Json {
        line.push("--format=json".to_owned());
    }
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
    // All of them, whatever becomes of one: what still starts cannot be stopped.
    let launched = futures_util::future::join_all(configs.iter().map(background::launch)).await;
    launched.into_iter().try_for_each(|launched| launched.map(drop))?;
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
            failure = failure.and(stop_instance(&running, DEFAULT_WITHIN, console).await.map(drop));
        }
    }
    failure
}

/// Moves the race to where races are archived, and says which one it is; none if there is none.
fn keep_archive(home: &Path, archive: &Path) -> io::Result<Option<RaceId>> {
    let races = home.join("benchmarks/races");
    let Some(race) = fs::read_dir(races).ok().and_then(|mut races| races.next()) else { return Ok(None) };
    let race = race?;
    let name = race.file_name().to_string_lossy().into_owned();
    fs::rename(race.path(), archive.join(&name))?;
    Ok(name.parse().ok())
}
