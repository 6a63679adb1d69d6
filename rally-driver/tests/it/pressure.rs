//! The driver against a target that does as it is told: what is measured is compared with what the target did.

use std::time::{Duration, Instant};

use rally_core::metrics::{Distribution, SampleType, TaskInterval};
use rally_core::track::{JsonObject, Operation, Task, TaskBuilder};
use rally_core::{DriverEventKind, LoadDriver, RacePlan, StopMode};
use rally_driver::Registry;
use serde_json::json;

use crate::cluster::{Asked, Cluster, Reply};
use crate::fixture::{Race, Told, challenge, plan, raw_samples, run};
use crate::target::{Act, Target};

fn request(name: &str) -> TaskBuilder {
    let operation = Operation::builder("raw-request").property("path", "/_cluster/health").property("method", "POST");
    Task::builder(operation.property("body", json!({}))).name(name)
}

/// A race of tasks against one target.
fn against(target: &Target, tasks: impl IntoIterator<Item = TaskBuilder>, options: serde_json::Value) -> RacePlan {
    let mut plan = plan(tasks.into_iter().fold(challenge(), rally_core::track::ChallengeBuilder::task));
    plan.target_hosts.insert("default".to_owned(), vec![target.address.clone()]);
    plan.client_options.insert("default".to_owned(), options.as_object().unwrap().clone());
    plan
}

fn errors(told: &Told) -> Vec<(String, u64, String)> {
    let mut all: Vec<(String, u64, String)> = Vec::new();
    for error in told.tasks(0, SampleType::Normal).flat_map(|interval| interval.errors.clone()) {
        match all.iter_mut().find(|(class, ..)| *class == error.class) {
            Some((_, count, _)) => *count += error.count,
            None => all.push((error.class, error.count, error.example)),
        }
    }
    all
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test]
async fn slow_answers_are_in_the_percentiles_that_they_belong_to() {
    // Two of ten are slow, one of them by dripping its body.
    let target = Target::start(|seen| match seen.number % 10 {
        3 => Act::Late(milliseconds(40), "{}"),
        7 => Act::Drip(milliseconds(80)),
        _ => Act::ok(),
    })
    .await;
    let begun = Instant::now();
    let told = run(Registry::rally(), &against(&target, [request("a").iterations(100)], json!({})), 1).await;
    let took = begun.elapsed().as_nanos();
    assert_eq!(told.samples(0, SampleType::Normal), 100);
    let times: [fn(&TaskInterval) -> &Distribution; 3] =
        [|task| &task.service_time, |task| &task.processing_time, |task| &task.latency];
    for time in times {
        let mut all = Distribution::default();
        told.tasks(0, SampleType::Normal).for_each(|interval| all.merge(time(interval)));
        let percentiles = all.percentiles(&[81.0, 91.0]);
        assert!(percentiles[0] >= 40e6 && percentiles[1] >= 80e6, "{percentiles:?}");
        // One after the other, they cannot have taken longer than all of it.
        assert!(all.sum() <= took, "{} of {took} ns", all.sum());
    }
}

#[tokio::test]
async fn a_stall_is_in_the_latency_of_every_request_that_was_due_meanwhile() {
    let stall = milliseconds(400);
    let target = Target::start(move |seen| if seen.number == 10 { Act::Late(stall, "{}") } else { Act::ok() }).await;
    let mut plan = against(&target, [request("a").iterations(80).target_throughput(100.0)], json!({}));
    plan.sample_bytes = 1 << 20;
    let begun = Instant::now();
    let samples = raw_samples(Registry::rally(), &plan).await;
    let took = begun.elapsed().as_nanos() as i64;
    let mut latencies: Vec<i64> = samples.iter().map(|sample| sample.latency).collect();
    latencies.sort_unstable_by(|one, other| other.cmp(one));
    // The request that stalled, and one every 10 ms after it: each waited for the rest of the stall at least.
    for (number, latency) in latencies.iter().take(40).enumerate() {
        let least = 400_000_000 - 10_000_000 * number as i64;
        assert!(*latency >= least, "{number} of {latencies:?}");
    }
    let slow = samples.iter().filter(|sample| sample.service_time >= 400_000_000).count();
    assert_eq!(slow, 1, "the service time of the others knows nothing of it");
    assert!(samples.iter().map(|sample| sample.service_time).sum::<i64>() <= took, "one came after the other");
    for sample in &samples {
        let due = sample.called - (sample.latency - sample.service_time);
        assert!(due <= 800_000_000 && sample.latency <= took - due.max(0), "{sample:?} of {took} ns");
    }
}

#[tokio::test]
async fn as_many_requests_are_sent_as_the_target_throughput_asks_for() {
    let target = Target::start(|_| Act::ok()).await;
    let task = request("a").clients(2).time_period(Duration::from_secs(2)).target_throughput(50.0);
    let told = run(Registry::rally(), &against(&target, [task], json!({})), 2).await;
    // Each client sends its first request at once and 25 per second from then on, the last one at the end.
    let sent = told.samples(0, SampleType::Normal);
    assert!((96..=102).contains(&sent), "{sent}");
    assert_eq!(target.seen().len() as u64, sent);
    let lag: u64 = told.intervals.iter().map(|interval| interval.health.dispatch_lag.count()).sum();
    assert_eq!(lag, sent - 2, "all but the first request of each client have an intended start");
}

#[tokio::test]
async fn failures_are_counted_by_class_with_the_first_body_of_each() {
    let body = r#"{"error":{"type":"es_rejected_execution_exception","reason":"queue is full"},"status":429}"#;
    let target = Target::start(move |seen| match seen.number {
        0 | 1 => Act::Answer(429, body.to_owned()),
        2 => Act::Answer(404, "nothing here".to_owned()),
        3 => Act::Answer(503, String::new()),
        4 => Act::Late(Duration::from_secs(30), ""),
        5 => Act::HangUp,
        6 => Act::Packed("br", b"x".to_vec()),
        _ => Act::ok(),
    })
    .await;
    let options = json!({ "max_retries": 0, "timeout": 0.2 });
    let mut plan = against(&target, [request("a").iterations(10)], options);
    plan.on_error = rally_core::OnError::ContinueOnNetwork;
    let told = run(Registry::rally(), &plan, 1).await;
    assert_eq!(told.samples(0, SampleType::Normal), 10);
    let errors = errors(&told);
    let counts: Vec<(&str, u64)> = errors.iter().map(|(class, count, _)| (class.as_str(), *count)).collect();
    let expected = [("http 429", 2), ("http 404", 1), ("http 503", 1), ("timeout", 1), ("connect", 1), ("response", 1)];
    assert_eq!(counts, expected);
    assert_eq!(errors[0].2, format!("es_rejected_execution_exception (queue is full): {body}"));
    assert_eq!(errors[1].2, "nothing here");
}

#[tokio::test]
async fn what_the_client_sends_again_is_one_sample_and_counted() {
    let target = Target::start(|seen| match seen.number {
        1 => Act::Answer(503, String::new()),
        2 => Act::HangUp,
        _ => Act::ok(),
    })
    .await;
    let told = run(Registry::rally(), &against(&target, [request("a").iterations(3)], json!({})), 1).await;
    assert_eq!((told.samples(0, SampleType::Normal), errors(&told)), (3, Vec::new()));
    let (retries, reconnects) = told.intervals.iter().fold((0, 0), |(retries, reconnects), interval| {
        (retries + interval.health.retries, reconnects + interval.health.reconnects)
    });
    assert_eq!((retries, reconnects), (2, 1));
}

#[tokio::test]
async fn connections_are_open_before_a_step_begins_and_live_on() {
    let target = Target::start(|seen| if seen.number == 0 { Act::AnswerAndClose } else { Act::ok() }).await;
    let tasks = [request("a").clients(3).iterations(2), request("b").clients(3).iterations(2)];
    let mut race = Race::prepare(Registry::rally(), &against(&target, tasks, json!({})), 2).await;
    race.prepared().await;
    // The target may be a little behind its kernel.
    while target.connections() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((target.connections(), target.seen().len()), (3, 0));
    race.begin(1).await;
    race.until_reached().await;
    // The connection that was closed is replaced by then; the others are those from before.
    assert_eq!(target.connections(), 4);
    race.begin(2).await;
    race.until_reached().await;
    assert_eq!((target.connections(), target.seen().len()), (4, 12));
    race.stop(StopMode::Drain).await;
}

#[tokio::test]
async fn requests_are_spread_evenly_over_the_hosts() {
    let (one, other) = (Target::start(|_| Act::ok()).await, Target::start(|_| Act::ok()).await);
    let mut plan = against(&one, [request("a").clients(3).iterations(10)], json!({}));
    plan.target_hosts[0].push(other.address.clone());
    run(Registry::rally(), &plan, 1).await;
    assert_eq!((one.seen().len(), other.seen().len()), (15, 15));
}

#[tokio::test]
async fn every_client_has_an_api_key_of_its_own_and_gives_it_back() {
    let target = Target::start(|seen| match seen.line() {
        "PUT /_security/api_key" => {
            let client = seen.body().matches(char::is_numeric).collect::<String>();
            Act::Answer(200, json!({ "id": format!("id-{client}"), "api_key": format!("key-{client}") }).to_string())
        }
        _ => Act::ok(),
    })
    .await;
    let options = json!({
        "create_api_key_per_client": true, "basic_auth_user": "rally", "basic_auth_password": "secret",
    });
    let mut race = Race::prepare(Registry::rally(), &against(&target, [request("a").clients(2)], options), 1).await;
    race.prepared().await;
    // Those that keys were asked for on are closed before there is any load.
    target.has_open(2).await;
    race.begin(1).await;
    assert_eq!(race.until_reached().await.failure(), None);
    race.stop(StopMode::Drain).await;
    let seen = target.seen();
    let mut used: Vec<_> = seen.iter().filter(|seen| seen.line() == "POST /_cluster/health").collect();
    used.sort_by_key(|seen| seen.header("authorization").map(str::to_owned));
    let keys: Vec<_> = used.iter().filter_map(|seen| seen.header("authorization")).collect();
    assert_eq!(keys, ["ApiKey aWQtMDprZXktMA==", "ApiKey aWQtMTprZXktMQ=="]);
    let last = seen.last().unwrap();
    assert_eq!((last.line(), last.body()), ("DELETE /_security/api_key", r#"{"ids":["id-0","id-1"]}"#));
    assert_eq!(last.header("authorization"), Some("Basic cmFsbHk6c2VjcmV0"));
}

/// The name of the key that a request asks for, such as `rally-client-3`, if it does.
fn wanted_key(asked: &Asked) -> Option<&str> {
    (asked.line == "PUT /_security/api_key").then(|| asked.body["name"].as_str())?
}

fn with_keys(cluster: &Cluster, clients: u32) -> RacePlan {
    let mut plan = plan(challenge().task(request("a").clients(clients)));
    plan.target_hosts.insert("default".to_owned(), vec![cluster.address.clone()]);
    let options =
        json!({ "create_api_key_per_client": true, "basic_auth_user": "rally", "basic_auth_password": "secret" });
    plan.client_options.insert("default".to_owned(), options.as_object().unwrap().clone());
    plan
}

fn deleted_keys(cluster: &Cluster) -> Vec<String> {
    let asked = cluster.asked().into_iter().filter(|asked| asked.line == "DELETE /_security/api_key");
    let mut ids: Vec<String> = asked
        .flat_map(|asked| asked.body["ids"].as_array().unwrap().clone())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn api_keys_of_several_workers_are_asked_for_at_the_same_time() {
    // Nobody gets a key before all have asked for one.
    let cluster = Cluster::start(|_, asked| match wanted_key(asked) {
        Some(name) => Reply::Once(6, json!({ "id": name, "api_key": "k" }).to_string()),
        None => Reply::json(json!({})),
    })
    .await;
    let told = run(Registry::rally(), &with_keys(&cluster, 6), 2).await;
    assert_eq!(told.failure(), None);
    let expected: Vec<String> = (0..6).map(|client| format!("rally-client-{client}")).collect();
    assert_eq!(deleted_keys(&cluster), expected);
}

#[tokio::test]
async fn api_keys_are_deleted_if_there_cannot_be_one_for_each_client() {
    // The last client asks when the others have their keys, or will have them.
    let cluster = Cluster::start(|_, asked| match wanted_key(asked) {
        Some("rally-client-5") => {
            Reply::Now(403, r#"{"error":{"type":"security_exception","reason":"no"}}"#.to_owned())
        }
        Some(name) => Reply::Once(6, json!({ "id": name, "api_key": "k" }).to_string()),
        None => Reply::json(json!({})),
    })
    .await;
    let mut race = Race::prepare(Registry::rally(), &with_keys(&cluster, 6), 2).await;
    let failure = race.until_reached().await.failure().unwrap();
    assert!(
        failure.contains("cannot create an API key for client 5: HTTP status 403: security_exception (no)"),
        "{failure}"
    );
    let made: Vec<String> = (0..5).map(|client| format!("rally-client-{client}")).collect();
    assert_eq!(deleted_keys(&cluster), made);
}

#[tokio::test]
async fn api_keys_are_deleted_one_by_one_where_several_are_not_understood() {
    let cluster = Cluster::start(|_, asked| match wanted_key(asked) {
        Some(name) => Reply::json(json!({ "id": name, "api_key": "k" })),
        None if asked.body.get("ids").is_some() => Reply::Now(400, r#"{"error":"unknown field [ids]"}"#.to_owned()),
        None => Reply::json(json!({})),
    })
    .await;
    let told = run(Registry::rally(), &with_keys(&cluster, 2), 1).await;
    assert!(
        !told.others.iter().any(|kind| matches!(kind, DriverEventKind::Noticed { message } if message.contains("API")))
    );
    let asked = cluster.asked().into_iter().filter(|asked| asked.line == "DELETE /_security/api_key");
    let ids: Vec<_> = asked.filter_map(|asked| asked.body.get("id").cloned()).collect();
    assert_eq!(ids, ["rally-client-0", "rally-client-1"]);
}

#[tokio::test]
async fn api_keys_are_deleted_if_the_race_is_stopped_before_there_are_enough() {
    let cluster = Cluster::start(|_, asked| match wanted_key(asked) {
        Some("rally-client-1") => Reply::Never,
        Some(name) => Reply::json(json!({ "id": name, "api_key": "k" })),
        None => Reply::json(json!({})),
    })
    .await;
    let mut race = Race::prepare(Registry::rally(), &with_keys(&cluster, 3), 1).await;
    while cluster.asked().len() < 3 {
        tokio::time::sleep(milliseconds(1)).await;
    }
    let told = race.stop(StopMode::Now).await;
    assert_eq!(told.failure(), None);
    assert_eq!(deleted_keys(&cluster), ["rally-client-0", "rally-client-2"]);
}

#[tokio::test]
async fn what_was_measured_is_told_before_api_keys_are_deleted() {
    let target = Target::start(|seen| match seen.line() {
        "PUT /_security/api_key" => Act::Answer(200, json!({ "id": "i", "api_key": "k" }).to_string()),
        "DELETE /_security/api_key" => Act::Answer(403, "{}".to_owned()),
        _ => Act::ok(),
    })
    .await;
    let options =
        json!({ "create_api_key_per_client": true, "basic_auth_user": "rally", "basic_auth_password": "secret" });
    let task = request("a").clients(2).time_period(Duration::from_secs(3_600)).target_throughput(200.0);
    let mut race = Race::prepare(Registry::rally(), &against(&target, [task], options), 1).await;
    race.prepared().await;
    race.begin(1).await;
    while target.seen().len() < 20 {
        tokio::time::sleep(milliseconds(1)).await;
    }
    race.driver.stop(&race.id, StopMode::Now).await.unwrap();
    let (mut before, mut after, mut is_told) = (0, 0, false);
    while let Some(kind) = race.next().await {
        match kind {
            DriverEventKind::Noticed { message } if message.contains("API keys") => is_told = true,
            DriverEventKind::Measured(interval) => {
                let samples: u64 = interval.tasks.iter().map(|task| task.samples).sum();
                *(if is_told { &mut after } else { &mut before }) += samples;
            }
            _ => {}
        }
    }
    assert!(is_told && before > 0 && after == 0, "{is_told} {before} {after}");
}

#[tokio::test]
async fn bodies_are_announced_as_the_cluster_understands_them() {
    const COMPATIBLE: &str = "application/vnd.elasticsearch+json; compatible-with=";
    let opensearch = json!({ "version": { "distribution": "opensearch", "number": "2.11.0" } });
    for (root, version, flavor, expected) in [
        (opensearch.clone(), None, None, "application/json".to_owned()),
        (json!({ "version": { "number": "9.1.0" } }), None, None, format!("{COMPATIBLE}9")),
        (json!({ "version": { "number": "7.10.2" } }), None, Some("default"), "application/json".to_owned()),
        (json!("no cluster at all"), None, None, format!("{COMPATIBLE}8")),
        // What the user says is not asked for.
        (opensearch.clone(), Some("8.1.0"), None, format!("{COMPATIBLE}8")),
        (json!({}), Some("2.11.0"), None, "application/json".to_owned()),
        (json!({}), Some("8.1.0"), Some("opensearch"), "application/json".to_owned()),
    ] {
        let answer = root.to_string();
        let target = Target::start(move |seen| match seen.line() {
            "GET /" => Act::Answer(200, answer.clone()),
            _ => Act::ok(),
        })
        .await;
        let mut plan = against(&target, [request("a")], json!({}));
        plan.distribution_version = version.map(str::to_owned);
        plan.distribution_flavor = flavor.map(str::to_owned);
        assert_eq!(run(Registry::rally(), &plan, 1).await.failure(), None);
        let seen = target.seen();
        assert_eq!(seen.iter().filter(|seen| seen.line() == "GET /").count(), usize::from(version.is_none()));
        let sent = seen.iter().find(|seen| seen.line() == "POST /_cluster/health").unwrap();
        for header in ["content-type", "accept"] {
            assert_eq!(sent.header(header), Some(expected.as_str()), "{root} {version:?}");
        }
    }
}

#[tokio::test]
async fn a_cluster_without_security_gives_no_api_keys_and_says_so() {
    let target = Target::start(|_| Act::Answer(405, String::new())).await;
    let options =
        json!({ "create_api_key_per_client": true, "basic_auth_user": "rally", "basic_auth_password": "secret" });
    let mut race = Race::prepare(Registry::rally(), &against(&target, [request("a")], options), 1).await;
    let failure = race.until_reached().await.failure().unwrap();
    assert!(failure.ends_with("security is disabled in the cluster under test"), "{failure}");
}

#[tokio::test]
async fn options_without_effect_are_told_and_impossible_ones_refused() {
    let target = Target::start(|_| Act::ok()).await;
    let plan = against(&target, [request("a")], json!({ "magic": true }));
    let mut race = Race::prepare(Registry::rally(), &plan, 1).await;
    let notices = race.prepared().await;
    assert!(notices.iter().any(|notice| notice.ends_with("client option `magic` is unknown and has no effect")));
    let plan = against(&target, [request("a")], json!({ "sniff_on_start": true }));
    let failure = Race::prepare(Registry::rally(), &plan, 1).await.until_reached().await.failure().unwrap();
    assert!(failure.contains("client option `sniff_on_start`"), "{failure}");
}

#[tokio::test]
async fn every_client_runs_its_task_against_all_clusters_at_once() {
    let (here, there) = (Target::start(|_| Act::ok()).await, Target::start(|_| Act::Answer(500, String::new())).await);
    let mut plan = against(&here, [request("a").clients(2).iterations(5)], json!({}));
    plan.target_hosts.insert("remote".to_owned(), vec![there.address.clone()]);
    plan.client_options.insert("remote".to_owned(), JsonObject::new());
    plan.multi_cluster = true;
    let told = run(Registry::rally(), &plan, 1).await;
    assert_eq!((here.seen().len(), there.seen().len()), (10, 10));
    let of = |cluster| {
        let intervals = told.tasks(0, SampleType::Normal).filter(|it| it.cluster.as_deref() == Some(cluster));
        intervals.fold((0, 0), |(samples, failed), it| (samples + it.samples, failed + it.failed))
    };
    assert_eq!((of("default"), of("remote")), ((10, 0), (10, 10)));
}

#[tokio::test]
async fn a_target_that_is_too_slow_for_the_schedule_is_no_fault_of_the_driver() {
    let target = Target::start(|_| Act::Late(milliseconds(20), "{}")).await;
    let task = request("a").time_period(Duration::from_secs(2)).target_throughput(500.0);
    let told = run(Registry::rally(), &against(&target, [task], json!({})), 1).await;
    let notices = told.others.iter().filter_map(|kind| match kind {
        DriverEventKind::Noticed { message } => Some(message.as_str()),
        _ => None,
    });
    let starved = notices.filter(|message| message.contains("were due while their client still waited")).count();
    assert_eq!(starved, 1, "{:?}", told.others);
}
