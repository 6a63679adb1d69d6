//! The driver as a coordinator uses it.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use rally_core::{ContentHash, DriverEventKind, JoinPoint, LoadDriver, RoleErrorKind, Sequence, Step, StopMode};
use rally_driver::ContentSource;

use crate::fixture::{Race, challenge, plan, scripted, takes, task};

#[tokio::test]
async fn steps_run_in_order_and_asking_twice_changes_nothing() {
    let (registry, calls) = scripted(|_| takes(1));
    let plan = plan(challenge().task(task("a").iterations(3)).task(task("b").iterations(2)));
    let mut race = Race::prepare(registry, &plan, 1).await;
    race.driver.prepare(race.assignment.clone()).await.unwrap();
    race.prepared().await;

    let step = |until| Step { until: JoinPoint(until), start: (race.clock)() };
    let skipped = race.driver.drive(&race.id, step(2)).await.unwrap_err();
    assert_eq!(skipped.kind, RoleErrorKind::Invalid);
    assert_eq!(skipped.cause, "it stands at join point 0");
    let unknown = race.driver.drive(&race.id, step(3)).await.unwrap_err();
    assert_eq!(unknown.cause, "the schedule has only 2 steps");

    race.begin(1).await;
    race.begin(1).await;
    race.until_reached().await;
    race.begin(1).await;
    assert_eq!((calls.count("a"), calls.count("b")), (3, 0));
    race.begin(2).await;
    race.until_reached().await;
    assert_eq!((calls.count("a"), calls.count("b")), (3, 2));
    race.stop(StopMode::Drain).await;
    race.driver.stop(&race.id, StopMode::Now).await.unwrap();
    let ended = race.driver.drive(&race.id, Step { until: JoinPoint(3), start: (race.clock)() }).await.unwrap_err();
    assert_eq!(ended.cause, "the race has ended");
}

#[tokio::test]
async fn events_are_numbered_without_gaps_and_can_be_asked_for_again() {
    let (registry, _) = scripted(|_| takes(1));
    let mut race = Race::prepare(registry, &plan(challenge().task(task("a").iterations(3))), 1).await;
    race.prepared().await;
    race.begin(1).await;
    race.until_reached().await;
    race.stop(StopMode::Drain).await;
    let again: Vec<_> =
        race.driver.events(&race.id, Sequence::START).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(
        again.iter().map(|event| event.sequence.0).collect::<Vec<_>>(),
        (1..=again.len() as u64).collect::<Vec<_>>()
    );
    assert!(again.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(again.last().unwrap().kind, DriverEventKind::Ended);
    let numbers: Vec<_> = again
        .iter()
        .filter_map(|event| match &event.kind {
            DriverEventKind::Measured(interval) => Some(interval.number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let later: Vec<_> = race.driver.events(&race.id, Sequence(2)).await.unwrap().collect().await;
    assert_eq!(later.len(), again.len() - 2);
    let forgotten = race.driver.events(&race.id, Sequence(1)).await.err().unwrap();
    assert_eq!(forgotten.kind, RoleErrorKind::Invalid);
}

#[tokio::test]
async fn a_driver_plays_in_one_race_at_a_time() {
    let (registry, _) = scripted(|_| takes(1));
    let mut race = Race::prepare(registry, &plan(challenge().task(task("a"))), 1).await;
    race.prepared().await;
    let mut other = race.assignment.clone();
    other.race = "4712".parse().unwrap();
    let busy = race.driver.prepare(other.clone()).await.unwrap_err();
    assert_eq!(busy.kind, RoleErrorKind::Busy);
    assert_eq!(busy.to_string(), "load driver on here could not prepare race 4712: it plays in race 4711");
    race.stop(StopMode::Now).await;
    race.driver.prepare(other).await.unwrap();
    let unknown = race.driver.events(&race.id, Sequence::START).await.err().unwrap();
    assert_eq!(unknown.kind, RoleErrorKind::Invalid);
}

/// A source of race plans that does not even fail as it should.
struct Panicking;

#[async_trait]
impl ContentSource for Panicking {
    async fn fetch(&self, _content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        panic!("no such shelf")
    }
}

#[tokio::test]
async fn a_race_that_panics_fails_and_leaves_the_driver_to_others() {
    let (registry, _) = scripted(|_| takes(1));
    let plan = plan(challenge().task(task("a")));
    let mut race = Race::prepare_with(registry, &plan, 1, 0..1, |options| options.content = Arc::new(Panicking)).await;
    let told = race.until_reached().await;
    assert_eq!(told.failure().unwrap(), "load driver on here could not play in race 4711: it panicked: no such shelf");
    assert_eq!(told.others.last(), Some(&DriverEventKind::Ended));
    let mut other = race.assignment.clone();
    other.race = "4712".parse().unwrap();
    race.driver.prepare(other).await.unwrap();
}

#[tokio::test]
async fn a_step_starts_at_its_time() {
    let (registry, calls) = scripted(|_| takes(0));
    let mut race = Race::prepare(registry, &plan(challenge().task(task("a").clients(2))), 2).await;
    race.prepared().await;
    let now = rally_driver::RequestTimer::now();
    let start = (race.clock)() + Duration::from_millis(150);
    race.driver.drive(&race.id, Step { until: JoinPoint(1), start }).await.unwrap();
    race.until_reached().await;
    assert!(calls.all().iter().all(|call| call.at >= now + 150_000_000));
}

#[tokio::test]
async fn dropping_the_driver_stops_its_load() {
    let (registry, calls) = scripted(|_| takes(1));
    let task = task("a").time_period(Duration::from_secs(3_600));
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    while calls.count("a") < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(race);
    // The thread ends by itself; once it has, nothing is called any more.
    let mut before = 0;
    while calls.count("a") != before {
        before = calls.count("a");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn another_driver_can_end_the_step() {
    let (registry, _) = scripted(|_| takes(1));
    let task = task("a").time_period(Duration::from_secs(3_600)).target_throughput(0.001);
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    race.driver.complete_step(&race.id, JoinPoint(1)).await.unwrap();
    race.until_reached().await;
    race.stop(StopMode::Drain).await;
}

#[tokio::test]
async fn a_driver_without_clients_reaches_every_join_point() {
    let (registry, calls) = scripted(|_| takes(1));
    let mut race = Race::prepare_share(registry, &plan(challenge().task(task("a"))), 2, 1..1).await;
    race.prepared().await;
    race.begin(1).await;
    race.until_reached().await;
    race.stop(StopMode::Drain).await;
    assert_eq!(calls.count("a"), 0);
}

#[tokio::test]
async fn raw_samples_are_written_to_a_parquet_file_named_by_its_hash() {
    let (registry, _) = scripted(|call| takes(call.number));
    let mut plan = plan(challenge().task(task("a").clients(2).warmup_iterations(1).iterations(3)));
    plan.sample_bytes = 1 << 20;
    let mut race = Race::prepare(registry, &plan, 2).await;
    race.prepared().await;
    race.begin(1).await;
    race.until_reached().await;
    let told = race.stop(StopMode::Drain).await;
    let [DriverEventKind::SegmentWritten { hash, length }, DriverEventKind::Ended] = told.others[..] else {
        panic!("{told:?}")
    };
    let path = race.driver.segment_path(hash);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(*blake3::hash(&bytes).as_bytes(), *hash.as_bytes());
    let ledger = told.intervals.last().unwrap().ledger;
    assert_eq!((ledger.made, ledger.written, ledger.unwritten), (8, 8, 0));

    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 8);
    for row in &rows {
        assert_eq!(row.get_string(0).unwrap(), "a");
        assert_eq!(row.get_string(2).unwrap(), "scripted");
        let (service, processing, latency) =
            (row.get_long(8).unwrap(), row.get_long(9).unwrap(), row.get_long(10).unwrap());
        assert!(processing >= service && latency == service);
    }
    assert_eq!(rows.iter().filter(|row| row.get_string(5).unwrap() == "warmup").count(), 2);
}

#[tokio::test]
async fn the_cap_on_raw_samples_is_announced_and_the_ledger_says_what_is_missing() {
    let (registry, _) = scripted(|_| takes(0));
    let mut plan = plan(challenge().task(task("a").iterations(40_000)).task(task("b").iterations(10)));
    plan.sample_bytes = 1_000;
    let told = crate::fixture::run(registry, &plan, 1).await;
    let notices: Vec<_> = told
        .others
        .iter()
        .filter_map(|kind| match kind {
            DriverEventKind::Noticed { message } => Some(message.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        notices,
        ["raw samples on here have reached 1000 bytes; no more are written, but everything is still counted"]
    );
    let ledger = told.intervals.last().unwrap().ledger;
    assert_eq!(ledger.made, 40_010);
    assert!(ledger.written > 0 && ledger.unwritten > 0, "{ledger:?}");
    assert_eq!(ledger.written + ledger.unwritten, ledger.made);
}
