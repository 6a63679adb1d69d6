//! The commands about tracks.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::error::CommandError;
use super::start::settings;
use crate::console::Console;
use crate::settings::{Flags, Settings};
use crate::track::{self, TrackCommand, TrackSettings};

/// Where tracks come from unless the user says otherwise.
const DEFAULT_REPOSITORY: (&str, &str) = ("default", "https://github.com/elastic/rally-tracks");

pub(super) async fn track(
    directory: &Path,
    command: TrackCommand,
    offline: bool,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let track_settings = track_settings(directory, settings, offline);
    let mut output = Vec::new();
    let mut warn = |text: &str| console.warning(text);
    let outcome = track::run(command, &track_settings, &mut output, &mut warn).await;
    if !output.is_empty() {
        console.data(&String::from_utf8(output).map_err(|error| CommandError::Output(io::Error::other(error)))?)?;
    }
    Ok(outcome?)
}

pub(super) fn track_settings(directory: &Path, settings: Settings, offline: bool) -> TrackSettings {
    let root = settings.root(directory);
    let (name, url) = DEFAULT_REPOSITORY;
    let mut repositories = BTreeMap::from([(name.to_owned(), url.to_owned())]);
    repositories
        .extend(settings.tracks.into_iter().filter_map(|(key, url)| Some((key.strip_suffix(".url")?.to_owned(), url))));
    TrackSettings { directory: root.join("tracks"), repositories, offline }
}
