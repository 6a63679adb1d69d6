//! Two races side by side: Rally's table, and whether a difference is more than noise.

use std::collections::BTreeMap;

use clap::ValueEnum;
use rally_core::metrics::{RANK_TEST_MIN, RaceDocument, TaskSeries, proportion_test, rank_test};
use serde_json::{Value, json};

use super::rows::{Kind, Row, rows};
use super::table::{Cell, NumberAlignment, csv, markdown};

/// The chance of an error that is accepted when a difference is called more than noise.
pub const SIGNIFICANCE: f64 = 0.01;

/// How a comparison is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CompareFormat {
    /// A pipe table.
    #[default]
    Markdown,
    /// Comma-separated values, with all digits.
    Csv,
    /// For programs; stable.
    Json,
}

/// A race with what it did in each second.
#[derive(Clone, Debug)]
pub struct ComparedRace {
    document: RaceDocument,
    /// By the task's name.
    series: BTreeMap<String, TaskSeries>,
}

impl ComparedRace {
    /// A race with the seconds of its tasks by their names. Of a task without, no difference can be told from noise.
    #[must_use]
    pub fn new(document: RaceDocument, series: BTreeMap<String, TaskSeries>) -> Self {
        Self { document, series }
    }

    /// The race.
    #[must_use]
    pub fn into_document(self) -> RaceDocument {
        self.document
    }

    /// Who this is, in some lines.
    fn heading(&self, title: &str) -> String {
        let it = &self.document;
        let mut text = format!(
            "Comparing {title}\n  Race ID: {}\n  Race timestamp: {}\n  Challenge: {}\n  Car: {}\n",
            it.race_id,
            it.race_timestamp,
            it.challenge.as_deref().unwrap_or("-"),
            it.car.join("+"),
        );
        if !it.user_tags.is_empty() {
            text += &format!("  User tags: {}\n", super::tags_text(&it.user_tags));
        }
        text
    }
}

/// A line of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedLine {
    /// What it is about.
    pub metric: String,
    /// The task, the job or the transform; empty if it is about the whole cluster.
    pub task: String,
    /// The baseline's value.
    pub baseline: f64,
    /// The contender's value.
    pub contender: f64,
    /// The unit of both.
    pub unit: String,
    /// Whether the difference is more than noise.
    pub noise: Noise,
    /// Whether it is about a task, and not about the whole cluster.
    pub is_of_task: bool,
    /// Whether more is better, as it is for throughput.
    pub more_is_better: bool,
}

/// Whether a difference is more than noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// It is.
    Beyond,
    /// It is not.
    Within,
    /// It cannot be told, since each race has only one value.
    OneValue,
    /// It cannot be told, since what one of the races did in each second is not known.
    NotKnown,
    /// It cannot be told of throughput, since only the requests of one of the races are known by the second, and of the
    /// other one the work that they did.
    OtherMeasure,
    /// It cannot be told, since the shorter of both races has values of so many seconds only.
    TooShort(usize),
}

impl Noise {
    /// What can be said of a row, from what its task did in both races.
    fn of(row: &Row, baseline: Option<&TaskSeries>, contender: Option<&TaskSeries>) -> Self {
        if row.kind == Kind::Cluster {
            return Self::OneValue;
        }
        let (Some(baseline), Some(contender)) = (baseline, contender) else { return Self::NotKnown };
        let seconds = |series: &TaskSeries| match row.kind {
            Kind::Percentile(kind, percentile) => series.percentile(kind, percentile),
            Kind::Throughput | Kind::ErrorRate | Kind::Cluster => series.work(),
        };
        let (chance, otherwise) = if row.kind == Kind::ErrorRate {
            (proportion_test(baseline.failures(), contender.failures()), Self::NotKnown)
        } else {
            let (one, two) = (seconds(baseline), seconds(contender));
            let has_samples = |series: &TaskSeries, values: &[f64]| {
                series.failures().1 > 0 && (row.kind == Kind::Throughput || !values.is_empty())
            };
            if !has_samples(baseline, &one) || !has_samples(contender, &two) {
                return Self::NotKnown;
            }
            if row.kind == Kind::Throughput && baseline.is_of_records() != contender.is_of_records() {
                return Self::OtherMeasure;
            }
            (rank_test(&one, &two), Self::TooShort(one.len().min(two.len())))
        };
        match chance {
            Some(chance) if chance < SIGNIFICANCE => Self::Beyond,
            Some(_) => Self::Within,
            None => otherwise,
        }
    }

    /// None if it cannot be told.
    fn is_beyond(self) -> Option<bool> {
        match self {
            Self::Beyond => Some(true),
            Self::Within => Some(false),
            Self::OneValue | Self::NotKnown | Self::OtherMeasure | Self::TooShort(_) => None,
        }
    }

    /// Why it cannot be told, if so.
    #[must_use]
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Beyond | Self::Within => None,
            Self::OneValue => Some("cannot be told: one value".to_owned()),
            Self::NotKnown => Some("cannot be told: its samples are not known".to_owned()),
            Self::OtherMeasure => Some("cannot be told: one race has records of requests alone".to_owned()),
            Self::TooShort(seconds) => Some(format!("cannot be told: has {seconds} s, needs {RANK_TEST_MIN}")),
        }
    }
}

impl ComparedLine {
    /// Contender minus baseline.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.contender - self.baseline
    }

    /// Whether the contender is better, as far as that can be said of the metric.
    #[must_use]
    pub fn is_better(&self) -> bool {
        if self.more_is_better { self.contender > self.baseline } else { self.contender < self.baseline }
    }

    /// The difference in percent of the baseline; 0 if that is 0.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.baseline == 0.0 { 0.0 } else { self.difference() / self.baseline * 100.0 }
    }
}

/// The lines that both races have a value for.
///
/// A difference of throughput or of a time is more than noise if the two-sided Mann-Whitney U test over the values of each
/// second gives a chance of less than [`SIGNIFICANCE`] for it. A second's value is the work done in it, or the same percentile
/// of the times in it; nothing can be told of throughput if the work of one race is only known from records of its requests.
/// With less than [`RANK_TEST_MIN`] seconds on either side nothing can be told. Error rates differ by more
/// than noise if [`proportion_test`] gives a chance of less than that. Nothing can be told of numbers of which a race has only
/// one.
#[must_use]
pub fn compare(baseline: &ComparedRace, contender: &ComparedRace, processing_time: bool) -> Vec<ComparedLine> {
    let rows_of = |race: &ComparedRace| {
        race.document.results.as_ref().map(|results| rows(results, processing_time)).unwrap_or_default()
    };
    let others = rows_of(contender);
    let line = |row: Row| {
        let other = others.iter().find(|other| other.metric == row.metric && other.task == row.task)?;
        let (one, two) = (row.raw?, other.raw?);
        let (mut divisor, mut unit) = row.unit.resolve(one.max(two));
        if row.metric == "Total Ingest Pipeline time" {
            // Rally compares it as it is.
            (divisor, unit) = (1.0, "ms".to_owned());
        }
        let noise = Noise::of(&row, baseline.series.get(&row.task), contender.series.get(&row.task));
        Some(ComparedLine {
            metric: row.metric.replace("across primary shards", "across primary shard"),
            task: row.task,
            baseline: one / divisor,
            contender: two / divisor,
            unit,
            noise,
            is_of_task: row.kind != Kind::Cluster,
            more_is_better: row.kind == Kind::Throughput,
        })
    };
    rows_of(baseline).into_iter().filter_map(line).collect()
}

/// Rally's columns, and one more.
const HEADER: [&str; 8] = ["Metric", "Task", "Baseline", "Contender", "Diff", "Unit", "Diff %", "Beyond noise"];

/// Who is compared, in some lines.
#[must_use]
pub fn comparison_heading(baseline: &ComparedRace, contender: &ComparedRace) -> String {
    format!("{}\n{}", baseline.heading("baseline"), contender.heading("with contender"))
}

/// The comparison as text.
#[must_use]
pub fn comparison(
    baseline: &ComparedRace,
    contender: &ComparedRace,
    lines: &[ComparedLine],
    format: CompareFormat,
    alignment: NumberAlignment,
) -> String {
    let noise = |line: &ComparedLine| match line.noise {
        Noise::Beyond => "yes".to_owned(),
        Noise::Within => "no".to_owned(),
        Noise::OneValue | Noise::NotKnown | Noise::OtherMeasure | Noise::TooShort(_) => {
            line.noise.reason().unwrap_or_default()
        }
    };
    let cells: Vec<Vec<Cell>> = lines
        .iter()
        .map(|line| {
            vec![
                Cell::text(&line.metric),
                Cell::text(&line.task),
                Cell::Number(Some(line.baseline)),
                Cell::Number(Some(line.contender)),
                Cell::Difference(Some(line.difference()), 5),
                Cell::text(&line.unit),
                Cell::Difference(Some(line.percent()), 2),
                Cell::text(noise(line)),
            ]
        })
        .collect();
    match format {
        CompareFormat::Markdown => markdown(&HEADER, &cells, alignment),
        CompareFormat::Csv => csv(&HEADER, &cells),
        CompareFormat::Json => format!("{:#}\n", comparison_json(baseline, contender, lines)),
    }
}

fn comparison_json(baseline: &ComparedRace, contender: &ComparedRace, lines: &[ComparedLine]) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "metric": line.metric,
                "task": line.task,
                "baseline": line.baseline,
                "contender": line.contender,
                "diff": line.difference(),
                "unit": line.unit,
                "diff_percent": line.percent(),
                "beyond_noise": line.noise.is_beyond(),
                "beyond_noise_reason": line.noise.reason(),
            })
        })
        .collect();
    json!({
        "baseline": baseline.document.race_id,
        "contender": contender.document.race_id,
        "significance": SIGNIFICANCE,
        "lines": lines,
    })
}

#[cfg(test)]
mod tests {
    use rally_core::metrics::{
        Distribution, Interval, MemoryStore, MetricsStore, OperationMetrics, Percentiles, Results, SampleType,
        TaskInterval,
    };
    use rally_core::metrics::{ThroughputBin, ThroughputSummary, ThroughputValue};
    use rally_core::track::{Challenge, Operation, Task, Track};
    use rally_core::{ClusterTime, RaceId, TaskIndex};

    use super::*;
    use crate::archive::Archive;
    use crate::report::testing::cluster;

    /// A race of some seconds with ten requests in each, which take these milliseconds.
    fn race(archive: &Archive, id: &str, seconds: u64, millis: impl Fn(u64) -> u64) -> ComparedRace {
        race_with_errors(archive, id, seconds, millis, 0)
    }

    /// The same, in which so many of the ten requests of each second fail.
    fn race_with_errors(
        archive: &Archive,
        id: &str,
        seconds: u64,
        millis: impl Fn(u64) -> u64,
        failed: u64,
    ) -> ComparedRace {
        let id: RaceId = id.parse().unwrap();
        let task = Task::builder(Operation::builder("search")).name("find");
        let track =
            Track::builder("t").challenge(Challenge::builder("c").default_challenge().task(task)).build().unwrap();
        archive.store_track(&id, &track).unwrap();
        let mut log = archive.interval_log(&id).unwrap();
        let mut all = Distribution::default();
        for second in 0..seconds {
            let mut times = Distribution::default();
            (0..10).for_each(|_| times.record(millis(second) * 1_000_000));
            all.merge(&times);
            let start = second * 1_000_000_000;
            let bin = ThroughputBin {
                second: second as u32,
                first: start,
                first_weight: 1,
                last: start,
                weight: 1000 / millis(second),
                task_start: 0,
            };
            let part = TaskInterval {
                task: TaskIndex(0),
                inner: None,
                cluster: None,
                sample_type: SampleType::Normal,
                service_time: times.clone(),
                processing_time: times.clone(),
                latency: times,
                samples: 10,
                failed,
                unit: "ops".to_owned(),
                throughput: vec![bin],
                reported_throughput: Vec::new(),
                errors: Vec::new(),
                duration: start,
            };
            let interval =
                Interval { number: second + 1, second: second as u32, tasks: vec![part], ..Interval::default() };
            log.append("a", ClusterTime::from_nanos(start), &interval).unwrap();
        }
        let value = ThroughputValue { at: 1, value: 1e3 / millis(0) as f64, sample_type: SampleType::Normal };
        let task = OperationMetrics {
            task: "find".to_owned(),
            operation: "search".to_owned(),
            throughput: ThroughputSummary::new(&[value], "ops"),
            latency: Percentiles::new(&all),
            service_time: Percentiles::new(&all),
            processing_time: Percentiles::new(&all),
            error_rate: failed as f64 / 10.0,
            duration: 1.0,
            meta: Default::default(),
        };
        let mut cluster = cluster();
        cluster.merge_count = cluster.merge_count.map(|count| count + seconds as f64);
        let results = Results { cluster_name: "default".to_owned(), op_metrics: vec![task], cluster };
        let document = serde_json::from_value(json!({
            "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": id, "challenge": "c",
            "race-timestamp": "20261101T000000Z", "pipeline": "benchmark-only", "track": "t", "results": results,
            "user-tags": {"setup": id}, "car": ["external"],
        }));
        let document = document.unwrap();
        let series = archive.task_series(&document).unwrap();
        ComparedRace::new(document, series)
    }

    #[test]
    fn races_are_compared_line_by_line_and_noise_is_told_from_difference() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let baseline = race(&archive, "before", 30, |second| 10 + second % 5);
        let contender = race(&archive, "after", 31, |second| 12 + second % 5);
        let lines = compare(&baseline, &contender, false);
        let text = comparison(&baseline, &contender, &lines, CompareFormat::Markdown, NumberAlignment::default());
        insta::assert_snapshot!(format!("{}\n{text}", comparison_heading(&baseline, &contender)));
        let json = comparison(&baseline, &contender, &lines, CompareFormat::Json, NumberAlignment::default());
        let json: Value = serde_json::from_str(&json).unwrap();
        let median =
            json["lines"].as_array().unwrap().iter().find(|it| it["metric"] == "50th percentile latency").unwrap();
        assert_eq!((&median["diff"], &median["beyond_noise"]), (&json!(2.0), &json!(true)));
    }

    #[test]
    fn a_race_whose_end_was_never_written_down_is_added_up_again() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let mut died = race(&archive, "died", 30, |second| 10 + second % 5).document;
        std::fs::write(archive.telemetry_path(&died.race_id), "{\"name\": \"segments_count\", \"value\": 7}\n{\"na")
            .unwrap();
        let before = died.results.take().unwrap();
        archive.store(&died).unwrap();
        let again = || archive.load_with_results(&died.race_id).unwrap().results;
        let results = again().unwrap();
        assert_eq!(results.op_metrics[0].latency, before.op_metrics[0].latency);
        assert!(results.op_metrics[0].throughput.median.is_some());
        assert_eq!(results.cluster.segment_count, Some(7.0));
        std::fs::remove_file(archive.intervals_path(&died.race_id)).unwrap();
        assert_eq!(again(), None);
    }

    #[test]
    fn error_rates_are_told_from_noise_and_what_is_not_here_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let one = race(&archive, "one", 10, |_| 10);
        let failing = race_with_errors(&archive, "failing", 10, |_| 10, 1);
        let again = race_with_errors(&archive, "again", 11, |_| 10, 1);
        let error_rate = |one: &ComparedRace, two: &ComparedRace| {
            compare(one, two, false).into_iter().find(|line| line.metric == "error rate").unwrap()
        };
        // None of 100, and 10 of 100.
        let line = error_rate(&one, &failing);
        assert_eq!((line.noise, line.is_better()), (Noise::Beyond, false));
        assert_eq!(error_rate(&failing, &again).noise, Noise::Within);
        let elsewhere = ComparedRace::new(failing.document, BTreeMap::new());
        let line = error_rate(&one, &elsewhere);
        assert_eq!(line.noise, Noise::NotKnown);
        let json = comparison_json(&one, &elsewhere, &[line]);
        assert_eq!(json["lines"][0]["beyond_noise_reason"], "cannot be told: its samples are not known");
    }

    /// The same race as whoever has only records of its requests knows it, of which there are so many in each second.
    async fn of_records(race: &ComparedRace, requests: u64) -> ComparedRace {
        let mut store = MemoryStore::default();
        let of_second = |second: u64| {
            (0..requests).flat_map(move |_| {
                ["latency", "service_time", "processing_time"].map(|name| {
                    let record = json!({
                        "race-id": "one", "@timestamp": second * 1_000, "name": name, "value": 10 + second % 5,
                        "task": "find", "operation": "search", "sample-type": "normal",
                    });
                    record.as_object().unwrap().clone()
                })
            })
        };
        store.store_records(&race.document, (0..30).flat_map(of_second).collect()).await.unwrap();
        let series = store.series(&race.document).await.unwrap();
        ComparedRace::new(race.document.clone(), series)
    }

    #[tokio::test]
    async fn the_same_race_of_the_archive_and_of_records_does_not_differ() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let here = race(&archive, "one", 30, |second| 10 + second % 5);
        let there = of_records(&here, 10).await;
        let noise = |line: &ComparedLine| (line.metric.clone(), line.noise);
        for (one, two) in [(&here, &there), (&there, &here)] {
            let lines = compare(one, two, false);
            let of_task: Vec<_> = lines.iter().filter(|line| line.is_of_task).map(noise).collect();
            let of_throughput = |(metric, _): &&(String, Noise)| metric.contains("Throughput");
            let (throughput, others): (Vec<_>, Vec<_>) = of_task.iter().partition(of_throughput);
            assert!(throughput.iter().all(|(_, noise)| *noise == Noise::OtherMeasure), "{throughput:?}");
            assert!(others.iter().all(|(_, noise)| *noise == Noise::Within), "{others:?}");
            assert!(!throughput.is_empty() && !others.is_empty());
        }
        let both = compare(&there, &there, false);
        assert!(both.iter().filter(|line| line.is_of_task).all(|line| line.noise == Noise::Within), "{both:?}");

        let none = of_records(&here, 0).await;
        let lines = compare(&here, &none, false);
        let of_task: Vec<_> = lines.iter().filter(|line| line.is_of_task).map(noise).collect();
        assert!(!of_task.is_empty() && of_task.iter().all(|(_, noise)| *noise == Noise::NotKnown), "{of_task:?}");
    }

    #[test]
    fn equal_races_do_not_differ_and_short_ones_cannot_be_told() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let one = race(&archive, "one", 30, |second| 10 + second % 5);
        let again = race(&archive, "again", 30, |second| 10 + (second + 2) % 5);
        let short = race(&archive, "short", 3, |_| 50);
        let verdicts = |other: &ComparedRace| {
            let lines = compare(&one, other, false).into_iter();
            lines.filter(|line| line.task == "find" && line.unit == "ms").map(|it| it.noise).collect::<Vec<_>>()
        };
        assert!(verdicts(&again).iter().all(|it| *it == Noise::Within), "{:?}", verdicts(&again));
        assert!(verdicts(&short).iter().all(|it| *it == Noise::TooShort(3)), "{:?}", verdicts(&short));
        assert!(!verdicts(&again).is_empty() && !verdicts(&short).is_empty());
        let lines = compare(&one, &short, false);
        let text = comparison(&one, &short, &lines, CompareFormat::Csv, NumberAlignment::default());
        let of = |metric: &str| text.lines().find(|line| line.starts_with(metric)).unwrap().to_owned();
        assert!(of("50th percentile latency").ends_with(",\"cannot be told: has 3 s, needs 8\""), "{text}");
        assert!(of("Segment count").ends_with(",cannot be told: one value"), "{text}");
        // The first and the last second are left out of throughput.
        assert!(of("Mean Throughput").ends_with(",\"cannot be told: has 1 s, needs 8\""), "{text}");
    }
}
