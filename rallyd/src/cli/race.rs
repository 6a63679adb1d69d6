//! `rallyd race`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rally_core::{ContentHash, Coordinator, RaceRequest};
use serde_json::json;

use super::arguments::RaceCommand;
use super::error::CommandError;
use super::races::archive;
use super::report::{Showing, conclude, known_trouble, settle, show_late_trouble};
use super::selection::{Filter, only};
use super::start::settings;
use super::track::track_settings;
use crate::console::Console;
use crate::daemon::facts;
use crate::exit::Exit;
use crate::race::{
    ControlCoordinator, LocalSurroundings, PlanFormat, RaceCoordinator, View, plan_json, plan_race, plan_text,
    registry, watch,
};
use crate::settings::Flags;

pub(super) async fn race(
    directory: &Path,
    RaceCommand { race: arguments, selection }: &RaceCommand,
    offline: bool,
    console: Console,
) -> Result<Exit, CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let track_settings = track_settings(directory, settings.clone(), offline);
    let mut planned = plan_race(arguments, &track_settings, &mut |text| console.warning(text)).await?;
    if let Some(environment) = &settings.system.env_name {
        planned.plan.description.environment.clone_from(environment);
    }
    if arguments.dry_run {
        match arguments.format {
            PlanFormat::Text => console.data(&plan_text(&planned))?,
            PlanFormat::Json => console.data(&format!("{:#}", plan_json(&planned)))?,
        }
        return Ok(Exit::Success);
    }
    let plan = serde_json::to_string(&planned.plan).map_err(|error| CommandError::Output(error.into()))?;
    let mut request = RaceRequest {
        race: planned.race.clone(),
        bundle: ContentHash::from_bytes(*blake3::hash(plan.as_bytes()).as_bytes()),
        load_driver_hosts: planned.load_driver_hosts,
        provisioner_hosts: Vec::new(),
        on_driver_loss: arguments.on_driver_loss.into(),
    };
    let archive = archive(directory, &settings);
    let (coordinator, own): (Arc<dyn Coordinator>, _) = match only(Filter::new(selection).await?.running(directory)?)? {
        Some(daemon) => {
            let coordinator = ControlCoordinator::new(daemon.instance);
            coordinator.start(request, plan).await?;
            (Arc::new(coordinator), None)
        }
        None if arguments.detach => return Err(CommandError::DetachWithoutDaemon),
        None => {
            let samples = archive.samples_directory(&planned.race);
            let surroundings = LocalSurroundings::new(facts(), registry(), settings.data_dir(directory), samples);
            let surroundings = Arc::new(surroundings.keep(archive.clone(), settings.reporting.clone()));
            request.bundle = surroundings.content().add(Bytes::from(plan));
            let coordinator = Arc::new(RaceCoordinator::new(facts().name, surroundings));
            coordinator.start_race(request).await?;
            (Arc::clone(&coordinator) as Arc<dyn Coordinator>, Some(coordinator))
        }
    };
    console.info(&format!("race id is {}", planned.race));
    let is_json = arguments.format == PlanFormat::Json;
    if arguments.detach {
        if is_json {
            console.data(&format!("{:#}", json!({"race": planned.race})))?;
        }
        return Ok(Exit::Success);
    }
    let view = View::new(console);
    let view = if own.is_some() { view.of_own_race() } else { view };
    let verdict = watch(&*coordinator, &planned.race, view).await?;
    let race = &planned.race;
    let showing = Showing { arguments: &arguments.report, reporting: &settings.reporting, is_json, console };
    let known = known_trouble(&*coordinator, race).await;
    let exit = conclude(&*coordinator, race, verdict, showing).await;
    match own {
        Some(own) => {
            own.settled().await;
            show_late_trouble(&*coordinator, race, &known, console).await;
            if archive.directory(race).exists() {
                console.info(&format!("the race is archived in {}", archive.directory(race).display()));
            }
        }
        None => settle(&*coordinator, race, &known, console).await,
    }
    exit
}
