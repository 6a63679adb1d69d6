//! `rallyd attach`.

use std::path::Path;

use rally_core::Coordinator;

use super::arguments::AttachArguments;
use super::error::CommandError;
use super::report::{Showing, conclude, known_trouble, settle};
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
    let mut view = View::new(console);
    let verdict = watch(&coordinator, &race, &mut view).await?;
    let known = known_trouble(&coordinator, &race).await;
    let (arguments, seen) = (&arguments.report, view.notices());
    let showing = Showing { arguments, reporting: &reporting, seen, is_json: false, console };
    let exit = conclude(&coordinator, &race, &verdict, showing).await;
    settle(&coordinator, &race, &known, console).await;
    exit
}
