//! `rallyd race`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rally_core::{Coordinator, RaceId, RaceRequest};
use serde_json::json;

use super::arguments::RaceCommand;
use super::error::CommandError;
use super::races::archive;
use super::report::{Showing, conclude, known_trouble, settle, settle_own, write_file};
use super::selection::{Filter, RunningInstance, only};
use super::start::settings;
use super::track::track_settings;
use crate::archive::Archive;
use crate::causes::causes;
use crate::console::Console;
use crate::control::{Request, Response, call};
use crate::exit::Exit;
use crate::facts::host_facts;
use crate::instance::Instance;
use crate::race::{
    ControlCoordinator, Interrupts, LocalSurroundings, NO_BUNDLE, PlanFormat, RaceArguments, RaceCoordinator, Turn,
    TurnError, View, find_host, is_this_host, plan_json, plan_race, plan_text, random_id, registry, watch_with,
};
use crate::report::junit_of_nothing;
use crate::settings::{Flags, Settings};

/// Races. Signals are only waited for once the race is planned, unless `interrupts` are those of whoever waited for them
/// before.
pub(super) async fn race(
    directory: &Path,
    RaceCommand { race: arguments, selection }: &RaceCommand,
    offline: bool,
    interrupts: Option<Interrupts>,
    console: Console,
) -> Result<Exit, CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let track_settings = track_settings(directory, settings.clone(), offline);
    let planned = plan_race(arguments, &track_settings, &mut |text| console.warning(text)).await;
    let mut planned = planned.inspect_err(|error| {
        if !error.is_usage() && !arguments.dry_run {
            let given = arguments.race_id.as_ref().and_then(|race| race.parse().ok());
            write_never_begun(arguments, &given.unwrap_or_else(random_id), error, console);
        }
    })?;
    if let Some(environment) = &settings.system.env_name {
        planned.plan.description.environment.clone_from(environment);
    }
    if arguments.dry_run {
        let daemon = only(Filter::new(selection).await?.running(directory)?)?;
        let cores = cores(daemon.as_ref().map(|daemon| &daemon.instance), &planned.load_driver_hosts).await?;
        match arguments.format {
            PlanFormat::Text => console.data(&plan_text(&planned, cores.as_deref()))?,
            PlanFormat::Json => console.data(&format!("{:#}", plan_json(&planned, cores.as_deref())))?,
        }
        return Ok(Exit::Success);
    }
    let plan = serde_json::to_string(&planned.plan).map_err(|error| CommandError::Output(error.into()))?;
    let request = RaceRequest {
        on_driver_loss: arguments.on_driver_loss.into(),
        ..RaceRequest::new(planned.race.clone(), NO_BUNDLE, planned.load_driver_hosts)
    };
    let archive = archive(directory, &settings);
    let daemon = only(Filter::new(selection).await?.running(directory)?)?;
    if arguments.detach && daemon.is_none() {
        return Err(CommandError::DetachWithoutDaemon);
    }
    // A race that is left alone is not ended by Ctrl-C, and neither does it keep this command from ending.
    let watching = (!arguments.detach).then(|| interrupts.unwrap_or_else(|| Interrupts::new(daemon.is_none())));
    let started = match daemon {
        Some(daemon) => start(daemon, request, plan).await,
        None => start_own(directory, &settings, &archive, request, plan, console).await,
    };
    let (coordinator, own) =
        started.inspect_err(|error| write_never_begun(arguments, &planned.race, error, console))?;
    console.info(&format!("race id is {}", planned.race));
    let is_json = arguments.format == PlanFormat::Json;
    let Some(mut interrupts) = watching else {
        if is_json {
            console.data(&format!("{:#}", json!({"race": planned.race})))?;
        }
        return Ok(Exit::Success);
    };
    let view = View::new(console);
    let mut view = if own.is_some() { view.of_own_race() } else { view };
    let verdict = watch_with(&*coordinator, &planned.race, &mut view, &mut interrupts).await?;
    let race = &planned.race;
    let (report, reporting, seen) = (&arguments.report, &settings.reporting, view.notices());
    let showing = Showing { arguments: report, reporting, seen, is_json, console };
    let known = known_trouble(&*coordinator, race).await;
    let exit = conclude(&*coordinator, race, verdict, showing).await;
    let Some(OwnRace { coordinator: own, .. }) = &own else {
        settle(&*coordinator, race, &known, &mut interrupts, console).await;
        return exit;
    };
    let is_settled = settle_own(own, &archive, race, &known, &mut interrupts, console).await;
    if archive.directory(race).exists() {
        console.info(&format!("the race is archived in {}", archive.directory(race).display()));
    }
    Ok(if is_settled { exit? } else { interrupted(exit?) })
}

/// How a race ended that was not kept as a whole, because the user did not want to wait for that. Whatever went wrong before
/// weighs more.
fn interrupted(exit: Exit) -> Exit {
    if exit == Exit::Success { Exit::Interrupted } else { exit }
}

/// Writes JUnit XML of a race that could not begin, if it was asked for.
fn write_never_begun(arguments: &RaceArguments, race: &RaceId, error: &dyn Error, console: Console) {
    let Some(file) = &arguments.report.junit_file else { return };
    let written = write_file(file, &junit_of_nothing(race, &causes(error).join(": "), None));
    written.unwrap_or_else(|error| console.warning(&causes(&error).join(": ")));
}

/// A race of this process.
struct OwnRace {
    coordinator: Arc<RaceCoordinator>,
    /// None if there is no file to lock.
    _turn: Option<Turn>,
}

/// Starts a race that the daemon's coordinator owns.
async fn start(
    daemon: RunningInstance,
    request: RaceRequest,
    plan: String,
) -> Result<(Arc<dyn Coordinator>, Option<OwnRace>), CommandError> {
    let coordinator = ControlCoordinator::new(daemon.instance);
    coordinator.start(request, plan).await?;
    Ok((Arc::new(coordinator), None))
}

/// Starts a race in this process, as the only one of this Rally directory.
async fn start_own(
    directory: &Path,
    settings: &Settings,
    archive: &Archive,
    request: RaceRequest,
    plan: String,
    console: Console,
) -> Result<(Arc<dyn Coordinator>, Option<OwnRace>), CommandError> {
    let turn = match Turn::take(&settings.root(directory), &request.race) {
        Ok(turn) => Some(turn),
        Err(error @ TurnError::Taken { .. }) => return Err(error.into()),
        Err(error @ TurnError::File { .. }) => {
            let why = causes(&error).join(": ");
            console.warning(&format!("{why}; this race does not wait for others, which may disturb it"));
            None
        }
    };
    let samples = archive.samples_directory(&request.race);
    let surroundings = LocalSurroundings::new(host_facts(), registry(), settings.data_dir(directory), samples);
    let surroundings = Arc::new(surroundings.archive_in(archive.clone(), settings.reporting.clone()));
    let coordinator = Arc::new(RaceCoordinator::new(surroundings));
    coordinator.start(request, plan).await?;
    Ok((Arc::clone(&coordinator) as Arc<dyn Coordinator>, Some(OwnRace { coordinator, _turn: turn })))
}

/// How many cores the load drivers have: those of this machine without a daemon, else as the coordinator knows them. None
/// if they are not known.
async fn cores(daemon: Option<&Instance>, hosts: &[String]) -> Result<Option<Vec<u32>>, CommandError> {
    let Some(daemon) = daemon else {
        let is_here = hosts.iter().all(|host| is_this_host(host));
        return Ok(is_here.then(|| vec![host_facts().cores; hosts.len()]));
    };
    let Ok(Response::Status(status)) = call(daemon, &Request::Status).await else { return Ok(None) };
    if status.host.hosts.is_empty() {
        return Ok(None);
    }
    let cores = hosts.iter().map(|host| find_host(&status.host, host).map(|found| found.facts.cores));
    cores.collect::<Result<_, _>>().map(Some).map_err(CommandError::UnknownHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_hides_no_failure() {
        assert_eq!(interrupted(Exit::Success), Exit::Interrupted);
        for failed in [Exit::Failure, Exit::Threshold, Exit::Interrupted] {
            assert_eq!(interrupted(failed), failed);
        }
    }
}
