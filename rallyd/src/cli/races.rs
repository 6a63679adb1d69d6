//! `rallyd list races`, `rallyd delete race` and `rallyd compare`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::civil::DateTime;
use rally_core::metrics::{FoundRaces, MetricsStore, RaceDocument, RaceFilter};
use rally_core::{Coordinator, RaceDescription, RaceId, RaceOutcome};
use rally_net::HostRole;
use serde_json::json;

use super::arguments::Format;
use super::ask;
use super::catalog::CatalogArguments;
use super::error::CommandError;
use super::report::{is_of_original, write_file, write_report_file};
use super::selection::Filter;
use super::start::settings;
use crate::archive::Archive;
use crate::console::Console;
use crate::control::{Request, Response};
use crate::race::ControlCoordinator;
use crate::report::{
    CompareFormat, ComparedRace, NumberAlignment, RacePage, compare as compare_races, comparison, comparison_heading,
    comparison_html, races_json, races_table,
};
use crate::settings::{Flags, Settings};
use crate::store::{ElasticsearchStore, StoreSettings};
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

/// Compare two races.
///
/// They are in the archive of this machine, or in the Elasticsearch metrics store of rally.ini. The last column says whether a difference of throughput or of a time is more than noise: the two-sided Mann-Whitney U
/// test over the values of each second gives a chance of less than 1 % for it. It cannot be told where a race has less than
/// eight seconds, and the column stays empty for numbers of which a race has only one. Two races say nothing of what differs
/// between any two races; repeat them.
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

/// Write a race as one HTML file.
///
/// It has the verdict, the summary, charts of throughput and times of every task, how the load drivers did, and what is
/// known of cluster and hosts. It needs nothing from elsewhere. Of a race that is not in the archive of this machine, but in the
/// Elasticsearch metrics store of rally.ini, it has the summary alone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rallyd report nightly-7                                         writes nightly-7.html\n  \
    rallyd report nightly-7 --output=-                              to standard output")]
pub(crate) struct HtmlReportArguments {
    /// The id of the race; `rallyd list races` shows them.
    race_id: RaceId,
    /// The file, or - for standard output [default: the id and .html, in the current directory].
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The archive of this machine.
pub(super) fn archive(directory: &Path, settings: &Settings) -> Archive {
    Archive::new(settings.root(directory).join("races"))
}

/// Where races are: the archive of this machine, and the metrics store that rally.ini names, if any.
fn stores(archive: Archive, settings: &Settings) -> Result<Vec<Box<dyn MetricsStore>>, CommandError> {
    let mut stores: Vec<Box<dyn MetricsStore>> = vec![Box::new(archive)];
    if let Some(store) = StoreSettings::new(&settings.reporting)? {
        let environment = settings.system.env_name.clone();
        let environment = environment.unwrap_or_else(|| RaceDescription::default().environment);
        let store = ElasticsearchStore::new(store, &environment);
        stores.push(Box::new(store.map_err(|source| CommandError::UnusableStore(Box::new(source)))?));
    }
    Ok(stores)
}

fn places<'a>(stores: impl IntoIterator<Item = &'a Box<dyn MetricsStore>>, and: &str) -> String {
    stores.into_iter().map(|store| store.place()).collect::<Vec<_>>().join(and)
}

/// The first store that has a race, with the document that it has.
async fn find<'a>(
    stores: &'a [Box<dyn MetricsStore>],
    race: &RaceId,
) -> Result<(&'a dyn MetricsStore, RaceDocument), CommandError> {
    for store in stores {
        if let Some(document) = store.race(race).await? {
            return Ok((&**store, document));
        }
    }
    Err(CommandError::UnknownRace { race: race.clone(), places: places(stores, " or in ") })
}

async fn has_any(stores: &[Box<dyn MetricsStore>]) -> Result<bool, CommandError> {
    for store in stores {
        if !store.races(&RaceFilter::default(), 1).await?.races.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) async fn list(
    directory: &Path,
    arguments: ListRacesArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let archive = archive(directory, &settings);
    let stores = stores(archive.clone(), &settings)?;
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
    let (mut found, mut failures) = (FoundRaces::default(), Vec::new());
    for store in &stores {
        match store.races(&filter, arguments.limit).await {
            Ok(more) => found.add(more, arguments.limit),
            Err(error) => failures.push(error),
        }
    }
    if failures.len() == stores.len()
        && let Some(error) = failures.pop()
    {
        return Err(error.into());
    }
    failures.iter().for_each(|error| console.warning(&format!("{error}; its races are not in the list")));
    found.damaged.iter().for_each(|text| console.warning(text));
    let races = found.races;
    match arguments.format {
        Format::Json => console.data(&format!("{:#}", races_json(&races)))?,
        Format::Text if !races.is_empty() => console.data(&races_table(&races))?,
        Format::Text if has_any(&stores).await? => console.info("no race is like that"),
        Format::Text => console.info(&empty_archive(directory, &archive).await?),
    }
    Ok(())
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
    let archive = archive(directory, &settings);
    let mut stores = stores(archive.clone(), &settings)?;
    let ids =
        parse_list(&arguments.id).map_err(|source| CommandError::Value { flag: "--id", source: Box::new(source) })?;
    let races = ids.iter().map(|id| id.parse()).collect::<Result<Vec<RaceId>, _>>()?;
    // Nothing is deleted if one of them makes no sense.
    for race in &races {
        let mut is_known = false;
        for store in &stores {
            is_known = is_known || store.contains(race).await?;
        }
        if !is_known {
            return Err(CommandError::UnknownRace { race: race.clone(), places: places(&stores, " or in ") });
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
        if arguments.dry_run {
            console.info(&format!("would delete race {race} from {}", places(&stores, " and from ")));
        } else {
            failure = delete_race(&mut stores, race).await;
            if failure.is_err() {
                break;
            }
            console.info(&format!("deleted race {race}"));
        }
        deleted.push(json!({"race-id": race, "directory": archive.directory(race), "deleted": !arguments.dry_run}));
    }
    if arguments.format == Format::Json {
        console.data(&format!("{:#}", json!({"races": deleted})))?;
    }
    failure
}

/// Deletes a race everywhere, last of all here, so that it can be found and deleted again if that fails.
async fn delete_race(stores: &mut [Box<dyn MetricsStore>], race: &RaceId) -> Result<(), CommandError> {
    for store in stores.iter_mut().rev() {
        store.delete(race).await?;
    }
    Ok(())
}

pub(super) async fn compare(
    directory: &Path,
    arguments: &CompareArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let archive = archive(directory, &settings);
    let stores = stores(archive.clone(), &settings)?;
    let load = async |race: &RaceId| {
        let (store, document) = find(&stores, race).await?;
        if document.results.is_none() {
            return Err(CommandError::NoResults(race.clone()));
        }
        if document.outcome != Some(RaceOutcome::Completed) && !is_of_original(&document) {
            console.warning(&format!("race {race} did not run to its end"));
        }
        if !archive.contains(race) {
            console.info(&format!("the seconds of race {race} are read from its records in {}", store.place()));
        }
        let series = store.series(&document).await?;
        Ok(ComparedRace::new(document, series))
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
        let page = |race: ComparedRace| RacePage::of(&archive, race.into_document());
        write_file(file, &comparison_html(&page(baseline)?, &page(contender)?, &lines))?;
        console.info(&format!("the comparison is in {}", file.display()));
    }
    Ok(())
}

pub(super) async fn report(
    directory: &Path,
    arguments: &HtmlReportArguments,
    console: Console,
) -> Result<(), CommandError> {
    let settings = settings(directory, &Flags::default(), console)?;
    let (archive, race) = (archive(directory, &settings), &arguments.race_id);
    let stores = stores(archive.clone(), &settings)?;
    let (_, document) = find(&stores, race).await?;
    let html = RacePage::of(&archive, document)?.html();
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{race}.html")));
    if output.as_os_str() == "-" {
        console.data(&html)?;
    } else {
        write_file(&output, &html)?;
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
