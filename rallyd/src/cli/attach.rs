//! `rallyd attach`.

use std::path::Path;

use rally_core::{Coordinator, RoleError, RoleErrorKind};

use super::arguments::{AttachArguments, Format};
use super::error::CommandError;
use super::races::archive;
use super::report::{Showing, conclude, known_trouble, settle, show_archived};
use super::selection::{Filter, only};
use super::start::settings;
use crate::console::Console;
use crate::exit::Exit;
use crate::race::{ControlCoordinator, Interrupts, View, watch_with};
use crate::settings::Flags;

pub(super) async fn attach(
    directory: &Path,
    arguments: &AttachArguments,
    console: Console,
) -> Result<Exit, CommandError> {
    let filter = Filter::new(&arguments.selection).await?;
    let daemon = only(filter.running(directory)?)?;
    let settings = settings(directory, &Flags::default(), console)?;
    let archive = archive(directory, &settings);
    let showing = Showing {
        arguments: &arguments.report,
        reporting: &settings.reporting,
        seen: &[],
        is_json: arguments.format == Format::Json,
        console,
    };
    let Some(daemon) = daemon else {
        return match &arguments.race_id {
            Some(race) if archive.contains(race) => show_archived(&archive, race, showing),
            Some(race) => Err(CommandError::NoSuchRace { race: race.clone(), directory: archive.path().to_owned() }),
            None => Err(filter.not_running()),
        };
    };
    let coordinator = ControlCoordinator::new(daemon.instance);
    let race = match &arguments.race_id {
        Some(race) => race.clone(),
        None => coordinator.current_race().await?.ok_or(CommandError::NoRace)?.race,
    };
    let (mut view, mut interrupts) = (View::new(console), Interrupts::new(false));
    let verdict = match watch_with(&coordinator, &race, &mut view, &mut interrupts).await {
        // A race that was run here without a daemon, or before this machine followed its coordinator.
        Err(error) if is_unknown(&error) && archive.contains(&race) => return show_archived(&archive, &race, showing),
        watched => watched?,
    };
    let known = known_trouble(&coordinator, &race).await;
    let exit = conclude(&coordinator, &race, verdict, Showing { seen: view.notices(), ..showing }).await;
    settle(&coordinator, &race, &known, &mut interrupts, console).await;
    exit
}

/// Whether the coordinator does not know the race, or cannot be asked.
fn is_unknown(error: &RoleError) -> bool {
    matches!(error.kind, RoleErrorKind::Invalid | RoleErrorKind::Unreachable)
}
