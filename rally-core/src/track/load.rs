//! Loading a track: template, JSON, model, parameters, filters.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::Value;

use super::fault::Fault;
use super::files::TrackFiles;
use super::filter::{ParseTaskFilterError, TaskFilters, TaskSelection};
use super::model::{JsonObject, Track};
use super::parameters::{self, ParameterFault};
use super::reader::Reader;
use super::source::{Location, SourceText};
use super::template::{Assembled, Globals, Kind, Limits, Renderer, TemplateError};
use super::{serverless, test_mode};

/// How a track is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The name of the track. The default is `track`.
    pub name: String,
    /// The file to start with, relative to the folder of the track. The default is `track.json`.
    pub file: String,
    /// Track parameters, in the order in which the user gave them. None by default.
    pub parameters: JsonObject,
    /// Whether parameters that the track does not use only cause a warning. By default they are an error.
    pub ignore_unused_parameters: bool,
    /// The challenge to select. If the track has no such challenge, none is selected. None by default.
    pub challenge: Option<String>,
    /// The tasks to keep or to leave out. All are kept by default.
    pub tasks: TaskSelection,
    /// Whether the track is cut down so that a race takes a moment. It is not by default.
    pub test_mode: bool,
    /// What templates see as `build_flavor`: the flavor of Elasticsearch. The default is `default`.
    pub build_flavor: String,
    /// Whether tasks that cannot run on Elasticsearch Serverless are left out. They are not by default.
    pub serverless: bool,
    /// Whether the user is an operator of Elasticsearch Serverless. False by default.
    pub serverless_operator: bool,
    /// What templates see as `now`, in seconds since the epoch. There is no clock here, so the default is 0.
    pub now: f64,
    /// How far templates may go.
    pub limits: Limits,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            name: "track".to_owned(),
            file: "track.json".to_owned(),
            parameters: JsonObject::new(),
            ignore_unused_parameters: false,
            challenge: None,
            tasks: TaskSelection::All,
            test_mode: false,
            build_flavor: "default".to_owned(),
            serverless: false,
            serverless_operator: false,
            now: 0.0,
            limits: Limits::default(),
        }
    }
}

/// A track, and what was learned while loading it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedTrack {
    /// The track, filtered as asked for.
    pub track: Track,
    /// What `track.json` rendered to, as it is written.
    pub rendered: Value,
    /// Names that the track takes as parameters.
    pub exposed_parameters: BTreeSet<String>,
    /// What looks wrong and does no harm.
    pub warnings: Vec<LoadWarning>,
}

/// Something that looks wrong and does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadWarning {
    /// The user gave parameters that the track does not use.
    UnusedParameters(Vec<ParameterFault>),
    /// `rally.collect` names a pattern that matches no file.
    NothingCollected {
        /// The pattern, relative to the folder of the track.
        pattern: String,
        /// Where it stands.
        location: Location,
    },
    /// The track names mapping types, which Elasticsearch has no more.
    MappingTypes {
        /// The JSON pointer into the rendered track.
        pointer: String,
    },
}

impl fmt::Display for LoadWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnusedParameters(faults) => write_lines(f, faults),
            Self::NothingCollected { pattern, location } => write!(f, "{location}: no file matches `{pattern}`"),
            Self::MappingTypes { pointer } => {
                write!(f, "{pointer}: mapping types are gone since Elasticsearch 8, so this has no effect")
            }
        }
    }
}

/// How far loading came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStage {
    /// The template of the track could not be rendered.
    Render,
    /// What it rendered to is not JSON.
    Json,
    /// The JSON is not a track, or does not fit what the user asks for.
    Load,
}

impl LoadStage {
    /// One word: `render`, `json` or `load`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Render => "render",
            Self::Json => "json",
            Self::Load => "load",
        }
    }
}

/// A track could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadTrackError {
    /// The track file could not be read.
    #[error("cannot read `{file}` of track `{track}`")]
    Read {
        /// The track.
        track: String,
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The template could not be turned into JSON.
    #[error("cannot render track `{track}`: {problem}{}", hints(.warnings))]
    Template {
        /// The track.
        track: String,
        /// What is wrong.
        problem: Box<TemplateError>,
        /// What may have led to it.
        warnings: Vec<LoadWarning>,
    },
    /// The rendered file is not a valid track, or the parameters do not fit it.
    #[error("track `{track}` is not valid:{}{}{}{}", bullets(.faults), bullets(.parameters), taken(.parameters, .exposed_parameters), hints(.warnings))]
    Invalid {
        /// The track.
        track: String,
        /// Everything that is wrong with the file.
        faults: Vec<Fault>,
        /// Everything that is wrong with the parameters that the user gave.
        parameters: Vec<ParameterFault>,
        /// The parameters that the track takes, if all of them could be found.
        exposed_parameters: BTreeSet<String>,
        /// What may have led to it.
        warnings: Vec<LoadWarning>,
    },
    /// A task filter makes no sense.
    #[error(transparent)]
    Filter(#[from] ParseTaskFilterError),
}

impl LoadTrackError {
    /// How far loading came.
    #[must_use]
    pub fn stage(&self) -> LoadStage {
        match self {
            Self::Template { problem, .. } if matches!(**problem, TemplateError::Json(_)) => LoadStage::Json,
            Self::Template { .. } => LoadStage::Render,
            Self::Read { .. } | Self::Invalid { .. } | Self::Filter(_) => LoadStage::Load,
        }
    }
}

/// Loads a track from its files.
///
/// # Errors
///
/// [`LoadTrackError`] says everything that is wrong, as far as it can be found out at once.
pub fn load_track(files: Arc<dyn TrackFiles>, options: &LoadOptions) -> Result<LoadedTrack, LoadTrackError> {
    let filters = TaskFilters::parse(&options.tasks)?;
    let renderer = renderer(files, options);
    let (source, mut warnings) = assemble(&renderer, options)?;
    let failed = |source, warnings: &[LoadWarning]| LoadTrackError::Template {
        track: options.name.clone(),
        problem: Box::new(source),
        warnings: warnings.to_vec(),
    };
    let mut exposed_parameters = BTreeSet::new();
    let rendered =
        renderer.render(&source, Kind::Track, &mut exposed_parameters).map_err(|error| failed(error, &warnings))?;

    let mut reader = Reader::new(&renderer);
    let outcome = reader.read(&options.name, &rendered);
    exposed_parameters.append(&mut reader.exposed);
    warnings.append(&mut reader.warnings);
    // Without the index bodies, it is not known which parameters are in use.
    let complete = outcome.is_ok();
    let (unused, reserved) = parameters::check(&options.parameters, &exposed_parameters);
    let mut parameters = reserved;
    if complete && options.ignore_unused_parameters && !unused.is_empty() {
        warnings.push(LoadWarning::UnusedParameters(unused));
    } else if complete {
        parameters.extend(unused);
    }
    let mut track = match outcome {
        Ok(track) if parameters.is_empty() => track,
        outcome => {
            return Err(LoadTrackError::Invalid {
                track: options.name.clone(),
                faults: outcome.err().unwrap_or_default(),
                parameters,
                exposed_parameters,
                warnings,
            });
        }
    };
    if let Some(name) = &options.challenge
        && track.challenges.len() > 1
    {
        for challenge in &mut track.challenges {
            challenge.selected = challenge.name == *name;
        }
    }
    track.has_python_plugin = renderer.files.read("track.py").is_ok();
    filters.apply(&mut track);
    if options.serverless {
        serverless::filter(&mut track, options.serverless_operator);
    }
    if options.test_mode {
        test_mode::reduce(&mut track);
    }
    Ok(LoadedTrack { track, rendered, exposed_parameters, warnings })
}

/// Renders the template of a track to JSON, without looking at what it says.
///
/// # Errors
///
/// [`LoadTrackError`] if the template cannot be read or rendered, or does not give JSON.
pub fn render_track(files: Arc<dyn TrackFiles>, options: &LoadOptions) -> Result<Value, LoadTrackError> {
    let renderer = renderer(files, options);
    let (source, warnings) = assemble(&renderer, options)?;
    let failed = |source| LoadTrackError::Template { track: options.name.clone(), problem: Box::new(source), warnings };
    renderer.render(&source, Kind::Track, &mut BTreeSet::new()).map_err(failed)
}

fn renderer(files: Arc<dyn TrackFiles>, options: &LoadOptions) -> Renderer {
    let globals = Globals {
        parameters: options.parameters.clone(),
        build_flavor: options.build_flavor.clone(),
        serverless_operator: options.serverless_operator,
        now: options.now,
    };
    Renderer::new(files, globals, options.limits.clone())
}

fn assemble(renderer: &Renderer, options: &LoadOptions) -> Result<(SourceText, Vec<LoadWarning>), LoadTrackError> {
    match renderer.assemble(&options.file) {
        Ok(Assembled { source, unmatched }) => {
            let warnings = unmatched
                .into_iter()
                .map(|(pattern, location)| LoadWarning::NothingCollected { pattern, location })
                .collect();
            Ok((source, warnings))
        }
        Err(TemplateError::Read { path, from: None, source }) => {
            Err(LoadTrackError::Read { track: options.name.clone(), file: path, source })
        }
        Err(source) => Err(LoadTrackError::Template {
            track: options.name.clone(),
            problem: Box::new(source),
            warnings: Vec::new(),
        }),
    }
}

fn write_lines<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str("\n")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// What the track takes, for users who gave what it does not.
fn taken(faults: &[ParameterFault], exposed: &BTreeSet<String>) -> String {
    let is_unused = |fault: &ParameterFault| matches!(fault, ParameterFault::Unused { .. });
    if exposed.is_empty() || !faults.iter().any(is_unused) {
        return String::new();
    }
    let names: Vec<&str> = exposed.iter().map(String::as_str).collect();
    format!("\n  the track takes {}", names.join(", "))
}

fn bullets<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  - {item}")).collect()
}

fn hints(warnings: &[LoadWarning]) -> String {
    warnings.iter().map(|warning| format!("\nnote: {warning}")).collect()
}
