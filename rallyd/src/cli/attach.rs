//! `rallyd attach`.

use std::path::Path;

use rally_core::Coordinator;

use super::arguments::AttachArguments;
use super::error::CommandError;
use super::report::{conclude, known_trouble, settle};
use super::selection::{Filter, only};
use super::start::settings;
use crate::console::Console;
use crate::exit::Exit;
use crate::race::{ControlCoordinator, View, watch};
use crate::settings::Flags;

pub(super) async fn attach(
    directory: &Path,
    arguments: &AttachArguments,
    console: Console,
) -> Result<Exit, CommandError> {
    let filter = Filter::new(&arguments.selection).await?;
    let daemon = only(filter.running(directory)?)?.ok_or_else(|| filter.not_running())?;
    let coordinator = ControlCoordinator::new(daemon.instance);
    let race = match &arguments.race_id {
        Some(race) => race.clone(),
        None => coordinator.current_race().await?.ok_or(CommandError::NoRace)?.race,
    };
    let reporting = settings(directory, &Flags::default(), console)?.reporting;
    let verdict = watch(&coordinator, &race, View::new(console)).await?;
    let known = known_trouble(&coordinator, &race).await;
    let exit = conclude(&coordinator, &race, &verdict, &arguments.report, &reporting, false, console).await;
    settle(&coordinator, &race, &known, console).await;
    exit
}
