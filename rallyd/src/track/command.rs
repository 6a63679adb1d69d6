//! The commands `list tracks`, `info`, `render-track` and `validate-track`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use rally_core::track::{
    LoadOptions, LoadTrackError, LoadedTrack, TaskSelection, TrackDirectory, load_track, render_track,
};
use serde_json::json;

use super::git::Git;
use super::info;
use super::repository::{RepositoryError, Revision, TrackRepository};
use super::values::{ParseValueError, parse_list, parse_map};

/// The commands that look at tracks.
#[derive(Debug, Subcommand)]
pub enum TrackCommand {
    /// Show information about a track: its size and its schedule.
    Info(InfoArgs),
    /// Render the template of a track and print it as JSON, without checking what it says.
    RenderTrack(RenderArgs),
    /// Check a track, with the given parameters.
    ValidateTrack(ValidateArgs),
    /// List all tracks of a repository; `list tracks` on the command line.
    #[command(skip)]
    ListTracks(ListArgs),
}

/// Which track is meant, and where it comes from.
#[derive(Clone, Debug, Default, Args)]
#[command(group = ArgGroup::new("which").args(["track", "track_path"]).required(true))]
pub struct TrackSelection {
    /// Name of the track, in a track repository; `rallyd list tracks` shows them.
    #[arg(long)]
    pub track: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of the help")]
    pub source: TrackSource,
}

/// Where tracks come from.
#[derive(Clone, Debug, Default, Args)]
pub struct TrackSource {
    /// Name of the track repository [default: default].
    #[arg(long, conflicts_with = "track_path")]
    pub track_repository: Option<String>,
    /// Folder with a `track.json`, or a JSON file.
    #[arg(long)]
    pub track_path: Option<PathBuf>,
    /// Revision of the track repository: a branch, a tag or a commit.
    #[arg(long, conflicts_with = "track_path")]
    pub track_revision: Option<String>,
}

/// What templates see.
#[derive(Clone, Debug, Default, Args)]
pub struct TemplateArgs {
    /// Track parameters: `key:value` pairs with commas in between, JSON, or the path of a JSON file.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub track_params: String,
    /// Only warn about track parameters that the track does not use.
    #[arg(long)]
    pub ignore_unused_track_params: bool,
    /// The build flavor of Elasticsearch that the track is rendered for.
    #[arg(long, default_value = "default")]
    pub build_flavor: String,
    /// Render the track for an operator of Elasticsearch Serverless.
    #[arg(long)]
    pub serverless_operator: bool,
    /// What templates see as `now`, in seconds since the epoch [default: the clock].
    #[arg(long, hide = true)]
    pub now: Option<f64>,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    #[command(flatten)]
    track: TrackSelection,
    #[command(flatten)]
    template: TemplateArgs,
    /// Challenge to show [default: all of them].
    #[arg(long)]
    challenge: Option<String>,
    /// Tasks to show: names, `type:` and an operation type, or `tag:` and a tag, with commas in between.
    #[arg(long, conflicts_with = "exclude_tasks")]
    include_tasks: Option<String>,
    /// Tasks to leave out, written in the same way.
    #[arg(long)]
    exclude_tasks: Option<String>,
    /// Show the track as it is in test mode.
    #[arg(long)]
    test_mode: bool,
    /// Leave out what cannot run on Elasticsearch Serverless.
    #[arg(long)]
    serverless: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

/// Arguments of `render-track`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    #[command(flatten)]
    track: TrackSelection,
    #[command(flatten)]
    template: TemplateArgs,
    /// File to write to [default: standard output].
    #[arg(long)]
    output_path: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: RenderedFormat,
}

/// How a rendered track is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RenderedFormat {
    /// What a track is.
    #[default]
    Json,
}

/// Arguments of `validate-track`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    track: TrackSelection,
    #[command(flatten)]
    template: TemplateArgs,
    /// Challenge to check [default: all of them].
    #[arg(long)]
    challenge: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `list tracks`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    source: TrackSource,
    /// Version of Elasticsearch that the tracks are for.
    #[arg(long)]
    distribution_version: Option<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What the commands need to know of the configuration.
#[derive(Clone, Debug, Default)]
pub struct TrackSettings {
    /// Folder of all track repositories, usually `benchmarks/tracks` in Rally's directory.
    pub directory: PathBuf,
    /// URLs of the repositories by name: `NAME.url` of section `tracks` in `rally.ini`.
    pub repositories: BTreeMap<String, String>,
    /// Whether there is no network. False by default.
    pub offline: bool,
}

/// A command about tracks failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackCommandError {
    /// A list or a map on the command line makes no sense.
    #[error("{flag} makes no sense")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        source: ParseValueError,
    },
    /// There is no track at this path.
    #[error("there is no track at {}: it must be a folder with a `track.json`, or a JSON file", .0.display())]
    NoTrack(PathBuf),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The track cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadTrackError),
    /// The track has no such challenge.
    #[error("track `{track}` has no challenge `{challenge}`, it has {}", .known.join(", "))]
    UnknownChallenge {
        /// The track.
        track: String,
        /// What was asked for.
        challenge: String,
        /// The challenges of the track.
        known: Vec<String>,
    },
    /// The result cannot be written.
    #[error("cannot write {}", .path.as_ref().map_or("the output".to_owned(), |path| path.display().to_string()))]
    Write {
        /// The file; none for standard output.
        path: Option<PathBuf>,
        /// Why.
        source: io::Error,
    },
}

impl From<io::Error> for TrackCommandError {
    fn from(source: io::Error) -> Self {
        Self::Write { path: None, source }
    }
}

/// Carries out a command. Results go to `out`, warnings to `warn`.
///
/// # Errors
///
/// [`TrackCommandError`]; the exit code for all of them is 64. With `--format=json`, `info` and `validate-track` also write
/// them to `out`, as JSON.
pub async fn run(
    command: TrackCommand,
    settings: &TrackSettings,
    out: &mut (dyn Write + Send),
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TrackCommandError> {
    match command {
        TrackCommand::Info(args) => {
            let format = args.format;
            let outcome = info(args, settings, out, warn).await;
            write_error(outcome, format, out)
        }
        TrackCommand::RenderTrack(args) => render(args, settings, out, warn).await,
        TrackCommand::ValidateTrack(args) => {
            let format = args.format;
            let outcome = validate(args, settings, out, warn).await;
            write_error(outcome, format, out)
        }
        TrackCommand::ListTracks(args) => list(args, settings, out, warn).await,
    }
}

/// Writes the error down for programs, too.
fn write_error(
    outcome: Result<(), TrackCommandError>,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), TrackCommandError> {
    if let (Err(error), Format::Json) = (&outcome, format) {
        let document = match error {
            TrackCommandError::Load(error) => error.to_json(),
            other => json!({"error": {"stage": "load", "message": other.to_string()}}),
        };
        writeln!(out, "{document}")?;
    }
    outcome
}

async fn info(
    args: InfoArgs,
    settings: &TrackSettings,
    out: &mut (dyn Write + Send),
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TrackCommandError> {
    let (directory, mut options) = find(&args.track, &args.template, settings, warn).await?;
    options.challenge = args.challenge;
    options.test_mode = args.test_mode;
    options.serverless = args.serverless;
    options.tasks = task_selection(args.include_tasks.as_deref(), args.exclude_tasks.as_deref())?;
    let loaded = load(directory, &options, warn)?;
    match args.format {
        // Programs see that nothing is selected.
        Format::Json => writeln!(out, "{}", loaded.to_json())?,
        Format::Text => {
            check_challenge(&loaded, &options)?;
            write!(out, "{}", info::describe(&loaded))?;
        }
    }
    Ok(())
}

/// What of a track is to be raced.
#[derive(Clone, Debug, Default)]
pub(crate) struct RaceSelection {
    pub(crate) challenge: Option<String>,
    pub(crate) include_tasks: Option<String>,
    pub(crate) exclude_tasks: Option<String>,
    pub(crate) test_mode: bool,
}

/// Loads a track for a race; the challenge that is asked for exists.
pub(crate) async fn load_for_race(
    track: &TrackSelection,
    template: &TemplateArgs,
    selection: RaceSelection,
    settings: &TrackSettings,
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(LoadedTrack, Option<String>), TrackCommandError> {
    let (directory, mut options) = find(track, template, settings, warn).await?;
    let revision = Git::revision_of(directory.root()).await;
    options.challenge = selection.challenge;
    options.test_mode = selection.test_mode;
    options.serverless = template.build_flavor == "serverless";
    options.tasks = task_selection(selection.include_tasks.as_deref(), selection.exclude_tasks.as_deref())?;
    let loaded = load(directory, &options, warn)?;
    check_challenge(&loaded, &options)?;
    Ok((loaded, revision))
}

fn task_selection(include: Option<&str>, exclude: Option<&str>) -> Result<TaskSelection, TrackCommandError> {
    let filters = |flag, text: &str| parse_list(text).map_err(|source| TrackCommandError::Value { flag, source });
    Ok(match (include, exclude) {
        (Some(tasks), _) => TaskSelection::Include(filters("--include-tasks", tasks)?),
        (None, Some(tasks)) => TaskSelection::Exclude(filters("--exclude-tasks", tasks)?),
        (None, None) => TaskSelection::All,
    })
}

async fn render(
    args: RenderArgs,
    settings: &TrackSettings,
    out: &mut (dyn Write + Send),
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TrackCommandError> {
    let RenderedFormat::Json = args.format;
    let (directory, options) = find(&args.track, &args.template, settings, warn).await?;
    let rendered = render_track(Arc::new(directory), &options)?;
    match args.output_path {
        Some(path) => std::fs::write(&path, format!("{rendered:#}\n"))
            .map_err(|source| TrackCommandError::Write { path: Some(path), source }),
        None => Ok(writeln!(out, "{rendered:#}")?),
    }
}

async fn validate(
    args: ValidateArgs,
    settings: &TrackSettings,
    out: &mut (dyn Write + Send),
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TrackCommandError> {
    let (directory, mut options) = find(&args.track, &args.template, settings, warn).await?;
    options.challenge = args.challenge;
    let loaded = load(directory, &options, warn)?;
    check_challenge(&loaded, &options)?;
    match args.format {
        Format::Json => {
            let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            writeln!(out, "{:#}", json!({"track": loaded.track.name, "valid": true, "warnings": warnings}))?;
        }
        Format::Text => writeln!(out, "Track [{}] is valid.", loaded.track.name)?,
    }
    Ok(())
}

async fn list(
    args: ListArgs,
    settings: &TrackSettings,
    out: &mut (dyn Write + Send),
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TrackCommandError> {
    let mut tracks = Vec::new();
    if let Some(path) = &args.source.track_path {
        let (directory, options) = at_path(path)?;
        tracks.push(load(directory, &options, warn)?.track);
    } else {
        let repository = update(&args.source, args.distribution_version, settings, warn).await?;
        for name in repository.tracks() {
            let directory = TrackDirectory::new(repository.track_directory(&name)?);
            let options = LoadOptions { name, now: now(), ..LoadOptions::default() };
            match load_track(Arc::new(directory), &options) {
                Ok(loaded) => tracks.push(loaded.track),
                Err(error) => warn(&error.to_string()),
            }
        }
    }
    match args.format {
        Format::Json => writeln!(out, "{:#}", info::list(tracks))?,
        Format::Text => writeln!(out, "Available tracks:\n\n{}", info::table(tracks))?,
    }
    Ok(())
}

/// Finds the files of a track, and how it is to be loaded.
async fn find(
    selection: &TrackSelection,
    template: &TemplateArgs,
    settings: &TrackSettings,
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<(TrackDirectory, LoadOptions), TrackCommandError> {
    let (directory, options) = match (&selection.source.track_path, &selection.track) {
        (Some(path), _) => at_path(path)?,
        (None, track) => {
            let name = track.clone().unwrap_or_default();
            let repository = update(&selection.source, None, settings, warn).await?;
            let directory = TrackDirectory::new(repository.track_directory(&name)?);
            (directory, LoadOptions { name, ..LoadOptions::default() })
        }
    };
    let parameters = parse_map(&template.track_params)
        .map_err(|source| TrackCommandError::Value { flag: "--track-params", source })?;
    let options = LoadOptions {
        parameters,
        ignore_unused_parameters: template.ignore_unused_track_params,
        build_flavor: template.build_flavor.clone(),
        serverless_operator: template.serverless_operator,
        now: template.now.unwrap_or_else(now),
        ..options
    };
    Ok((directory, options))
}

/// A track outside of any repository: a folder, or a JSON file. It is named after the last component of the path.
fn at_path(path: &Path) -> Result<(TrackDirectory, LoadOptions), TrackCommandError> {
    let no_track = || TrackCommandError::NoTrack(path.to_owned());
    let path = match path.file_name() {
        Some(_) => std::path::absolute(path),
        // `..` and `.` say nothing of the name. Anything else keeps its own, even if it is a link.
        None => path.canonicalize(),
    }
    .map_err(|_| no_track())?;
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).ok_or_else(no_track);
    let mut options = LoadOptions { now: now(), ..LoadOptions::default() };
    if path.join(&options.file).is_file() {
        options.name = text(path.file_name())?;
        return Ok((TrackDirectory::new(path), options));
    }
    if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
        options.name = text(path.file_stem())?;
        options.file = text(path.file_name())?;
        return Ok((TrackDirectory::new(path.parent().ok_or_else(no_track)?), options));
    }
    Err(no_track())
}

async fn update(
    source: &TrackSource,
    version: Option<String>,
    settings: &TrackSettings,
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<TrackRepository, TrackCommandError> {
    let name = source.track_repository.as_deref().unwrap_or("default");
    let url = settings.repositories.get(name).map(String::as_str);
    let repository = TrackRepository::new(&settings.directory, name, url);
    let revision = match &source.track_revision {
        Some(revision) => Revision::Exactly(revision.clone()),
        None => Revision::ForVersion(version),
    };
    let (_, warnings) = repository.update(&revision, settings.offline).await?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(repository)
}

fn load(
    directory: TrackDirectory,
    options: &LoadOptions,
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<LoadedTrack, TrackCommandError> {
    let loaded = load_track(Arc::new(directory), options)?;
    loaded.warnings.iter().for_each(|warning| warn(&warning.to_string()));
    Ok(loaded)
}

fn check_challenge(loaded: &LoadedTrack, options: &LoadOptions) -> Result<(), TrackCommandError> {
    match &options.challenge {
        Some(challenge) if loaded.track.challenge(challenge).is_none() => Err(TrackCommandError::UnknownChallenge {
            track: loaded.track.name.clone(),
            challenge: challenge.clone(),
            known: loaded.track.challenges.iter().map(|challenge| challenge.name.clone()).collect(),
        }),
        _ => Ok(()),
    }
}

fn now() -> f64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_ends_with_dots_is_named_after_the_folder_that_it_means() {
        let root = tempfile::tempdir().unwrap();
        let track = root.path().join("mine");
        std::fs::create_dir_all(track.join("parts")).unwrap();
        std::fs::write(track.join("track.json"), "{}").unwrap();
        for path in ["mine", "mine/.", "mine/parts/.."] {
            assert_eq!(at_path(&root.path().join(path)).unwrap().1.name, "mine", "{path}");
        }
        assert!(at_path(&root.path().join("mine/parts/../..")).is_err());
    }
}
