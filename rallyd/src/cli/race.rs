//! `rallyd race`.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use rally_core::race::RaceVerdict;
use rally_core::{ContentHash, Coordinator, RaceOutcome, RaceRequest};

use super::arguments::RaceCommand;
use super::error::CommandError;
use super::selection::{Filter, only};
use super::start::settings;
use super::track::track_settings;
use crate::console::Console;
use crate::daemon::facts;
use crate::exit::Exit;
use crate::race::{
    ControlCoordinator, LocalSurroundings, PlanFormat, RaceCoordinator, View, plan_json, plan_race, plan_text,
    registry, verdict_text, watch,
};
use crate::report::{NumberAlignment, Shown, markdown, summary_lines, warnings};
use crate::settings::Flags;

pub(super) async fn race(
    directory: &Path,
    RaceCommand { race: arguments, selection }: &RaceCommand,
    offline: bool,
    console: Console,
) -> Result<Exit, CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let track_settings = track_settings(directory, settings, offline);
    let planned = plan_race(arguments, &track_settings, &mut |text| console.warning(text)).await?;
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
    if let Some(daemon) = only(Filter::new(selection).await?.running(directory)?)? {
        let coordinator = ControlCoordinator::new(daemon.instance);
        coordinator.start(request, plan).await?;
        console.info(&format!("race id is {}", planned.race));
        if arguments.detach {
            return Ok(Exit::Success);
        }
        return Ok(show(&watch(&coordinator, &planned.race, View::new(console)).await?, console));
    }
    if arguments.detach {
        return Err(CommandError::DetachWithoutDaemon);
    }
    let benchmarks = track_settings.directory.parent().unwrap_or(directory).to_owned();
    let segments = benchmarks.join("races").join(planned.race.as_str()).join("samples");
    let surroundings = Arc::new(LocalSurroundings::new(facts(), registry(), benchmarks.join("data"), segments));
    request.bundle = surroundings.content().add(Bytes::from(plan));
    let metrics = surroundings.metrics();
    let coordinator = RaceCoordinator::new(facts().name, surroundings);
    coordinator.start_race(request).await?;
    console.info(&format!("race id is {}", planned.race));
    let verdict = watch(&coordinator, &planned.race, View::new(console).of_own_race()).await?;
    if let Some(challenge) = planned.plan.challenge() {
        let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let results = metrics.results(&planned.plan.track, challenge);
        let lines = summary_lines(&results, Shown::default(), false);
        console.data(markdown(&lines, NumberAlignment::default()).trim_end())?;
        warnings(&results).iter().for_each(|text| console.warning(text));
    }
    Ok(show(&verdict, console))
}

/// Says how a race ended.
pub(super) fn show(verdict: &RaceVerdict, console: Console) -> Exit {
    let text = verdict_text(verdict);
    match verdict.outcome {
        RaceOutcome::Completed => {
            console.info(&text);
            Exit::Success
        }
        RaceOutcome::Cancelled => {
            console.error(&text);
            Exit::Interrupted
        }
        _ => {
            console.error(&text);
            Exit::Failure
        }
    }
}
