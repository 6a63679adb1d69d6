//! `rallyd list races`, `rallyd delete race` and `rallyd compare`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::DateTime;
use rally_core::metrics::RaceDocument;
use rally_core::{Coordinator, RaceId, RaceOutcome};
use rally_net::HostRole;
use serde_json::json;

use super::arguments::Format;
use super::ask;
use super::catalog::CatalogArguments;
use super::error::CommandError;
use super::report::{archived_json, is_of_original, write_file, write_report_file};
use super::selection::Filter;
use super::start::settings;
use crate::archive::{Archive, ArchiveError};
use crate::causes::causes;
use crate::console::Console;
use crate::control::{Request, Response};
use crate::race::ControlCoordinator;
use crate::report::{
    CompareFormat, ComparedRace, NumberAlignment, RaceFilter, RacePage, compare as compare_races, comparison,
    comparison_heading, comparison_html, races_json, races_table,
};
use crate::settings::{Flags, Settings};
use crate::store::{StoreSettings, on_own_thread};
use crate::track::{ListArgs, parse_list, parse_map};

/// List what there is.
#[derive(Debug, Subcommand)]
pub(crate) enum ListCommand {
    /// All tracks of a repository.
    Tracks(ListArgs),
    Races(ListRacesArguments),
    /// All telemetry devices that `--telemetry` may name.
    Telemetry(CatalogArguments),
    /// All pipelines that `--pipeline` may name.
    Pipelines(CatalogArguments),
}

/// The races in the archive of this machine, the latest first.
///
/// Races over a cluster are archived on its coordinator. With an Elasticsearch metrics store in rally.ini, its races are there,
/// too.
#[derive(Debug, Args)]
pub(crate) struct ListRacesArguments {
    /// How many at most.
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Only those of this track.
    #[arg(long)]
    track: Option<String>,
    /// Only those of this challenge.
    #[arg(long)]
    challenge: Option<String>,
    /// Only those whose user tag `name` or `benchmark-name` is this.
    #[arg(long)]
    benchmark_name: Option<String>,
    /// Only those with all of these user tags: `key:value` pairs with commas in between, or JSON.
    #[arg(long, alias = "user-tag", default_value = "", hide_default_value = true)]
    user_tags: String,
    /// Only those of this day or later, as `YYYYMMDD` or `YYYYMMDDTHHMMSSZ`.
    #[arg(long, value_parser = begin)]
    from_date: Option<DateTime>,
    /// Only those of this day or earlier, written in the same way.
    #[arg(long, value_parser = end)]
    to_date: Option<DateTime>,
    /// How to show them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Delete what a command has made.
#[derive(Debug, Subcommand)]
pub(crate) enum DeleteCommand {
    Race(DeleteRaceArguments),
}

/// Delete races from the archive of this machine, with all that was measured.
///
/// With an Elasticsearch metrics store in rally.ini, they are deleted there, too.
#[derive(Debug, Args)]
pub(crate) struct DeleteRaceArguments {
    /// Ids of the races, with commas in between.
    #[arg(long)]
    id: String,
    /// Show what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// How to show what was deleted.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compare two races of the archive of this machine.
///
/// The last column says whether a difference of throughput or of a time is more than noise: the two-sided Mann-Whitney U
/// test over the values of each second gives a chance of less than 1 % for it. It cannot be told where a race has less than
/// eight seconds. For error rates it is the test of two proportions, and of numbers of which a race has only one nothing can be
/// told. Two races say nothing of what differs between any two races; repeat them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd compare --baseline=before --contender=after\n  \
    rallyd compare --baseline=before --contender=after --format=json")]
pub(crate) struct CompareArguments {
    /// Id of the race to compare with.
    #[arg(long)]
    baseline: RaceId,
    /// Id of the race to look at.
    #[arg(long)]
    contender: RaceId,
    /// How to write the comparison.
    #[arg(long, alias = "report-format", value_enum, default_value_t)]
    format: CompareFormat,
    /// Where numbers stand.
    #[arg(long, value_enum, default_value_t)]
    report_numbers_align: NumberAlignment,
    /// File to which the comparison is appended, too.
    #[arg(long)]
    report_file: Option<PathBuf>,
    /// File that is written as an HTML page: all lines, and charts of both races.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Has no effect; for scripts that were written for the original.
    #[arg(long, hide = true)]
    show_in_report: Option<String>,
}

/// Write a race of the archive of this machine as one HTML file, or for programs.
///
/// It has the verdict, the summary, charts of throughput and times of every task, how the load drivers did, and what is
/// known of cluster and hosts. It needs nothing from elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd report nightly-7                                         writes nightly-7.html\n  \
    rallyd report nightly-7 --output=-                              to standard output\n  \
    rallyd report nightly-7 --format=json                           what `attach` and `race` give programs")]
pub(crate) struct HtmlReportArguments {
    /// The id of the race; `rallyd list races` shows them.
    race_id: RaceId,
    /// The file, or - for standard output [default: the id and .html, in the current directory; standard output for JSON].
    #[arg(long)]
    output: Option<PathBuf>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: PageFormat,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PageFormat {
    /// For any browser.
    #[default]
    Html,
    /// For programs; stable.
    Json,
}

/// Where races are run unless `env.name` in section `[system]` of rally.ini says otherwise.
const DEFAULT_ENVIRONMENT: &str = "local";

/// The archive of this machine.
pub(super) fn archive(directory: &Path, settings: &Settings) -> Archive {
    Archive::new(settings.root(directory).join("races"))
}

pub(super) async fn list(
    directory: &Path,
    arguments: ListRacesArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let archive = archive(directory, &settings);
    let user_tags = parse_map(&arguments.user_tags)
        .map_err(|source| CommandError::Value { flag: "--user-tags", source: Box::new(source) })?;
    let filter = RaceFilter {
        track: arguments.track,
        challenge: arguments.challenge,
        benchmark_name: arguments.benchmark_name,
        user_tags,
        from: arguments.from_date,
        to: arguments.to_date,
    };
    let (races, damaged) = archive.list()?;
    for error in damaged {
        console.warning(&causes(&error).join(": "));
    }
    let is_empty = races.is_empty();
    let mut races: Vec<RaceDocument> = races.into_iter().filter(|race| filter.takes(race)).collect();
    if let Some((store, environment)) = store(&settings)? {
        let limit = arguments.limit;
        let asked = on_own_thread(store, async move |store| store.races(&environment, &filter, limit).await).await;
        let stored = asked.unwrap_or_else(|error| {
            console.warning(&format!("{}; these are the races of the archive alone", causes(&error).join(": ")));
            Vec::new()
        });
        let is_new = |race: &RaceDocument| races.iter().all(|known| known.race_id != race.race_id);
        let stored: Vec<_> = stored.into_iter().filter(is_new).collect();
        races.extend(stored);
        races.sort_by(|one, other| other.race_timestamp.cmp(&one.race_timestamp));
    }
    races.truncate(arguments.limit);
    match arguments.format {
        Format::Json => console.data(&format!("{:#}", races_json(&races)))?,
        Format::Text if is_empty && races.is_empty() => console.info(&empty_archive(directory, &archive).await?),
        Format::Text if races.is_empty() => console.info("no race of the archive is like that"),
        Format::Text => console.data(&races_table(&races))?,
    }
    Ok(())
}

/// The metrics store that rally.ini names, if any, and the environment whose races are meant.
fn store(settings: &Settings) -> Result<Option<(StoreSettings, String)>, CommandError> {
    let environment = settings.system.env_name.clone().unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned());
    Ok(StoreSettings::new(&settings.reporting)?.map(|store| (store, environment)))
}

/// Why there is no race, and where there may be some.
async fn empty_archive(directory: &Path, archive: &Archive) -> Result<String, CommandError> {
    let mut text = format!("the archive of this machine is empty: {}", archive.path().display());
    for daemon in Filter::default().running(directory)? {
        // One that does not answer says nothing of where races are.
        if let Ok(Response::Status(status)) = ask(&daemon, &Request::Status).await
            && status.host.role == HostRole::Member
        {
            let coordinator = status.host.coordinator.address.ip();
            text += &format!("; races of a cluster are archived on its coordinator, {coordinator}");
        }
    }
    Ok(text)
}

pub(super) async fn delete(
    directory: &Path,
    arguments: DeleteRaceArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let (archive, store) = (archive(directory, &settings), store(&settings)?);
    let ids =
        parse_list(&arguments.id).map_err(|source| CommandError::Value { flag: "--id", source: Box::new(source) })?;
    let races = ids.iter().map(|id| id.parse()).collect::<Result<Vec<RaceId>, _>>()?;
    // Nothing is deleted if one of them makes no sense.
    for race in &races {
        if !archive.directory(race).exists() && stored(store.as_ref(), race).await?.is_none() {
            archive.load(race)?;
        }
        for daemon in Filter::default().running(directory)? {
            let current = ControlCoordinator::new(daemon.instance).current_race().await;
            if current.is_ok_and(|current| current.is_some_and(|current| current.race == *race)) {
                return Err(CommandError::RaceRuns(race.clone()));
            }
        }
    }
    let (mut failure, mut deleted) = (Ok(()), Vec::new());
    for race in &races {
        let place = archive.directory(race);
        if arguments.dry_run {
            let and_store = if store.is_some() { ", and in the metrics store" } else { "" };
            console.info(&format!("would delete race {race} in {}{and_store}", place.display()));
        } else {
            failure = delete_race(&archive, store.as_ref(), race).await;
            if failure.is_err() {
                break;
            }
            console.info(&format!("deleted race {race}"));
        }
        deleted.push(json!({"race-id": race, "directory": place, "deleted": !arguments.dry_run}));
    }
    if arguments.format == Format::Json {
        console.data(&format!("{:#}", json!({"races": deleted})))?;
    }
    failure
}

/// Deletes a race here and in the metrics store, if there is one.
async fn delete_race(
    archive: &Archive,
    store: Option<&(StoreSettings, String)>,
    race: &RaceId,
) -> Result<(), CommandError> {
    if let Some((store, environment)) = store.cloned() {
        let race = race.clone();
        on_own_thread(store, async move |store| store.delete(&environment, &race).await).await?;
    }
    match archive.delete(race) {
        // It was run on another machine, and is gone from the store.
        Err(ArchiveError::Unknown { .. }) if store.is_some() => Ok(()),
        deleted => Ok(deleted?),
    }
}

/// The document that the metrics store has of a race.
async fn stored(store: Option<&(StoreSettings, String)>, race: &RaceId) -> Result<Option<RaceDocument>, CommandError> {
    let Some((store, environment)) = store.cloned() else { return Ok(None) };
    let race = race.clone();
    Ok(on_own_thread(store, async move |store| store.race(&environment, &race).await).await?)
}

pub(super) async fn compare(
    directory: &Path,
    arguments: &CompareArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let (archive, store) = (archive(directory, &settings), store(&settings)?);
    let load = async |race: &RaceId| {
        let mut document = match archive.load(race) {
            // Without its seconds, nothing of it can be told from noise.
            Err(unknown @ ArchiveError::Unknown { .. }) => stored(store.as_ref(), race).await?.ok_or(unknown)?,
            loaded => loaded?,
        };
        let is_theirs = is_of_original(&document);
        document.results = archive.results(&document)?;
        if document.results.is_none() {
            return Err(CommandError::NoResults(race.clone()));
        }
        if document.outcome != Some(RaceOutcome::Completed) && !is_theirs {
            console.warning(&format!("race {race} did not run to its end"));
        }
        Ok(ComparedRace::load(&archive, document)?)
    };
    let (baseline, contender) = (load(&arguments.baseline).await?, load(&arguments.contender).await?);
    let lines = compare_races(&baseline, &contender, settings.reporting.output_processing_time);
    let text = comparison(&baseline, &contender, &lines, arguments.format, arguments.report_numbers_align);
    if arguments.format == CompareFormat::Markdown {
        console.plain(&comparison_heading(&baseline, &contender));
    }
    console.data(&text)?;
    write_report_file(arguments.report_file.as_deref(), &text)?;
    if let Some(file) = &arguments.html {
        let page = |race: &RaceId| RacePage::load(&archive, race);
        let html = comparison_html(&page(&arguments.baseline)?, &page(&arguments.contender)?, &lines);
        write_file(file, &html)?;
        console.info(&format!("the comparison is in {}", file.display()));
    }
    Ok(())
}

pub(super) fn report(directory: &Path, arguments: &HtmlReportArguments, console: Console) -> Result<(), CommandError> {
    let archive = archive(directory, &settings(directory, &Flags::default(), console)?);
    let race = &arguments.race_id;
    let (text, default) = match arguments.format {
        PageFormat::Html => (RacePage::load(&archive, race)?.html(), PathBuf::from(format!("{race}.html"))),
        PageFormat::Json => (format!("{:#}\n", archived_json(&archive, race)?), PathBuf::from("-")),
    };
    let output = arguments.output.clone().unwrap_or(default);
    if output.as_os_str() == "-" {
        console.data(&text)?;
    } else {
        write_file(&output, &text)?;
        console.info(&format!("the report of race {race} is in {}", output.display()));
    }
    Ok(())
}

fn begin(text: &str) -> Result<DateTime, String> {
    date(text, jiff::civil::Time::midnight())
}

fn end(text: &str) -> Result<DateTime, String> {
    date(text, jiff::civil::time(23, 59, 59, 0))
}

fn date(text: &str, time: jiff::civil::Time) -> Result<DateTime, String> {
    let moment = DateTime::strptime("%Y%m%dT%H%M%SZ", text);
    let day = || jiff::civil::Date::strptime("%Y%m%d", text).map(|day| day.to_datetime(time));
    moment.or_else(|_| day()).map_err(|_| "expected: YYYYMMDD or YYYYMMDDTHHMMSSZ".to_owned())
}
