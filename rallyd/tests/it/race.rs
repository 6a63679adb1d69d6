//! Races as users start them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rallyd::demo::{StandIn, write_corpus, write_track};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const TRACK: &str = r#"{
    "version": 2,
    "operations": [{"name": "nap", "operation-type": "sleep", "duration": 0.001}],
    "schedule": [
        {"operation": "nap", "name": "warm", "clients": 2},
        {"parallel": {"completed-by": "a", "tasks": [
            {"operation": "nap", "name": "a", "clients": 3},
            {"operation": "nap", "name": "b", "clients": 2, "target-throughput": 10, "time-period": 60}
        ]}}
    ]
}"#;

/// Runs a command in a home and returns its exit code and what it wrote.
fn run(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
    let Output { status, stdout, stderr } =
        command.args(arguments).env_clear().env("RALLY_HOME", home).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A home with a track in it.
fn home() -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let track = home.path().join("naps");
    fs::create_dir(&track).unwrap();
    fs::write(track.join("track.json"), TRACK).unwrap();
    let argument = format!("--track-path={}", track.display());
    (home, argument)
}

#[test]
fn a_dry_run_shows_what_would_run_where() {
    let (home, track) = home();
    let race = |more: &[&str]| {
        let arguments = [&["race", &track, "--dry-run", "--load-driver-hosts=x,y"], more].concat();
        let (exit, stdout, stderr) = run(home.path(), &arguments);
        assert_eq!((exit, stderr.as_str()), (0, ""));
        stdout
    };
    let expected = "Track [naps], challenge [default]: 5 clients in 2 steps, against localhost:9200
  x: clients 0 to 2
  y: clients 3 to 4
  (spread evenly, as their cores are not known here; the race spreads clients by cores)

Step 1 of 2
  warm (sleep): clients 0 to 1

Step 2 of 2
  a (sleep): clients 0 to 2; completes the step
  b (sleep) at 10 ops/s: clients 3 to 4
";
    assert_eq!(race(&[]), expected);
    let document: Value = serde_json::from_str(&race(&["--format=json"])).unwrap();
    assert_eq!(document["steps"][1]["completed_by"], "a");
    assert_eq!(document["steps"][1]["clients"][4]["tasks"][0]["client_in_element"], 4);
    assert_eq!(document["load_drivers"][1]["first_client"], 3);
    assert_eq!((&document["load_drivers"][1]["cores"], &document["spread_by"]), (&Value::Null, &Value::from("host")));
}

#[test]
fn what_is_not_there_yet_is_said_in_a_sentence() {
    let (home, track) = home();
    for (option, expected) in [
        ("--car=4gheap", "--car is not there: clusters are not launched yet"),
        ("--pipeline=benchmark", "there are benchmark-only, from-distribution, from-sources, docker"),
        ("--pipeline=from-distribution", "--pipeline=from-distribution is not there yet"),
        ("--race-id=../../etc", "--race-id"),
        ("--multi-cluster", "--multi-cluster needs two clusters"),
        ("--detach", "--detach needs a daemon"),
        ("--load-driver-hosts=", "--load-driver-hosts must name a host or more"),
        ("--load-driver-hosts=localhost,", "--load-driver-hosts must name a host or more"),
    ] {
        let (exit, _, stderr) = run(home.path(), &["race", &track, option]);
        assert!(exit == 2 && stderr.contains(expected), "{option}: {exit} {stderr}");
    }
    let (exit, _, stderr) = run(home.path(), &["race", &track, "--challenge=other"]);
    assert!(exit == 64 && stderr.contains("has no challenge `other`"), "{stderr}");
    let (exit, _, stderr) = run(home.path(), &["attach"]);
    assert!(exit == 3 && stderr.contains("No daemon runs"), "{stderr}");
}

#[test]
fn a_race_in_a_daemon_can_be_left_and_seen_again() {
    let (home, track) = home();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (exit, _, stderr) = run(home.path(), &["start", "--coordinator-ip=127.0.0.1", &format!("--port={port}")]);
    assert_eq!(exit, 0, "{stderr}");
    let detached = ["race", &track, "--race-id=left", "--detach", "--load-driver-hosts=10.255.255.1", "--format=json"];
    let (exit, stdout, stderr) = run(home.path(), &detached);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), serde_json::json!({"race": "left"}));
    let (seen_exit, _, seen) = run(home.path(), &["attach", "left"]);
    let (unknown_exit, _, unknown) = run(home.path(), &["attach", "other"]);
    let dry = |host: &str| run(home.path(), &["race", &track, "--dry-run", "--format=json", host]);
    let (dry_exit, plan, _) = dry("--load-driver-hosts=localhost");
    let (unknown_host_exit, _, unknown_host) = dry("--load-driver-hosts=10.255.255.1");
    run(home.path(), &["stop"]);
    // The coordinator knows how many cores its hosts have.
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!((dry_exit, &plan["spread_by"]), (0, &Value::from("cores")));
    assert_eq!(plan["load_drivers"][0]["cores"], cores);
    assert!(unknown_host_exit == 2 && unknown_host.contains("there is no host 10.255.255.1"), "{unknown_host}");
    assert!(exit == 0 && stderr.contains("race id is left"), "{stderr}");
    assert!(seen_exit == 64 && seen.contains("there is no host 10.255.255.1 in the cluster"), "{seen}");
    assert!(unknown_exit == 64 && unknown.contains("it knows no such race"), "{unknown}");
}

#[test]
fn what_was_said_during_a_race_is_not_said_again_at_its_end_and_one_cause_takes_one_line() {
    let (home, track) = home();
    let arguments = ["race", &track, "--include-tasks=warm", "--target-hosts=127.0.0.1:1"];
    let (exit, _, stderr) = run(home.path(), &[&arguments[..], &["--race-id=once"]].concat());
    assert_eq!(exit, 0, "{stderr}");
    let before: Vec<_> = stderr.lines().filter(|line| line.contains("`node-environment`")).collect();
    let [line] = before[..] else { panic!("{stderr}") };
    assert!(
        line.starts_with("[INFO]") && line.contains("`cluster-environment`") && line.contains("127.0.0.1:1"),
        "{line}"
    );
    // Programs get all of it.
    let (exit, stdout, _) = run(home.path(), &[&arguments[..], &["--format=json"]].concat());
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert!(
        exit == 0 && document["findings"]["notices"][0].as_str().unwrap().contains("`node-environment`"),
        "{stdout}"
    );
}

#[test]
fn every_document_and_every_request_of_a_race_is_in_its_report() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = runtime.block_on(StandIn::start()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let track = home.path().join("places");
    write_track(&track).unwrap();
    write_corpus(&home.path().join(".rally/benchmarks/data/places/documents.json"), 3_001).unwrap();
    let (track, hosts) = (format!("--track-path={}", track.display()), format!("--target-hosts={}", target.address()));
    let parameters = "--track-params=document_count:3001,bulk_size:100,bulk_clients:3,search_seconds:2";
    let (exit, stdout, stderr) = run(home.path(), &["race", "--pipeline=benchmark-only", &track, &hosts, parameters]);
    assert_eq!(exit, 0, "{stderr}");
    assert_eq!(target.documents(), 3_001);
    let line = |metric: &str, task: &str| {
        let found = stdout.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let mut values = found.filter(|cells| cells.len() > 4 && cells[1] == metric && cells[2] == task);
        values.next().unwrap_or_else(|| panic!("no {metric} of {task} in\n{stdout}"))[3].to_owned()
    };
    assert!(line("Median Throughput", "index-documents").parse::<f64>().unwrap() > 0.0);
    for task in ["index-documents", "by-name", "by-country", "large-towns"] {
        assert!(line("100th percentile service time", task).parse::<f64>().unwrap() > 0.0, "{task}");
        assert_eq!(line("error rate", task).parse::<f64>().unwrap(), 0.0, "{task}");
    }
    let rate: f64 = line("Mean Throughput", "by-name").parse().unwrap();
    // A busy machine may not keep up, but nothing is faster than it should be.
    assert!(rate > 0.0 && rate <= 110.0, "by-name is throttled to 100 ops/s, but the report says {rate}\n{stdout}");
}

/// What a demo has left: directories of its own, and processes.
fn left_of_demo(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home.join(".rally/benchmarks")).unwrap().map(|entry| entry.unwrap().file_name());
    let directories = entries.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("demo-"));
    let variable = format!("RALLY_HOME={}", home.display()).into_bytes();
    let is_ours = |environment: Vec<u8>| environment.split(|&byte| byte == 0).any(|it| it == variable);
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let processes = processes.filter(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(is_ours));
    directories.chain(processes).collect()
}

#[test]
fn the_demo_races_over_three_daemons_and_takes_everything_down() {
    let home = tempfile::tempdir().unwrap();
    let (exit, stdout, stderr) = run(home.path(), &["demo", "--documents=2000", "--seconds=1", "--format=json"]);
    assert_eq!(exit, 0, "{stderr}");
    let race = only_race(home.path());
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (document["race"]["race-id"].as_str(), document["verdict"]["outcome"].as_str()),
        (Some(&*race), Some("completed"))
    );
    let (exit, again, stderr_of_report) = run(home.path(), &["report", &race, "--format=json"]);
    assert_eq!(exit, 0, "{stderr_of_report}");
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["race"], document["race"]);
    let page = home.path().join(".rally/benchmarks/races").join(&race).join("report.html");
    let program = env!("CARGO_BIN_EXE_rallyd");
    let below = std::env::current_dir().unwrap();
    let program = Path::new(program).strip_prefix(below).unwrap_or(Path::new(program)).display();
    let expected = [
        "a cluster of 3 daemons is up",
        "is a stand-in",
        "step 6 of 6",
        "What to try next",
        &format!("its report, for any browser, is {}", page.display()),
        &format!("  {program} attach {race}\n"),
        &format!("  {program} demo\n"),
    ];
    for expected in expected {
        assert!(stderr.contains(expected), "no {expected:?} in\n{stderr}");
    }
    assert!(fs::read_to_string(page).unwrap().contains("<h1>demo / index-and-search "));
    assert_eq!(left_of_demo(home.path()), [""; 0]);
}

/// The id of the only race of an archive.
fn only_race(home: &Path) -> String {
    let mut races = fs::read_dir(home.join(".rally/benchmarks/races")).unwrap();
    let race = races.next().unwrap().unwrap().file_name().into_string().unwrap();
    assert!(races.next().is_none(), "there is another race");
    race
}

#[test]
fn an_interrupted_demo_takes_everything_down_too() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
    command.args(["demo", "--documents=2000", "--seconds=600"]).env_clear().env("RALLY_HOME", home.path());
    let report = home.path().join("report.csv");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("step 6 of 6") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it has ended before it was interrupted");
    }
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("The race was cancelled"), "{rest}");
    assert_eq!(left_of_demo(home.path()), [""; 0]);

    // Wherever its results are shown, they say that they are not those of a whole race.
    let mut summary = String::new();
    child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert!(summary.starts_with("INCOMPLETE: The race was cancelled: "), "{summary}");
    let race = only_race(home.path());
    let (exit, again, stderr) = run(home.path(), &["attach", &race]);
    assert_eq!((exit, again), (130, summary), "{stderr}");
    let file = format!("--report-file={}", report.display());
    let (_, csv, _) = run(home.path(), &["attach", &race, "--report-format=csv", &file]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "Metric,Task,Value,Unit");
    assert!(lines[1].starts_with("INCOMPLETE: The race was cancelled: ") && lines[1].ends_with(",,,"), "{csv}");
    assert_eq!(fs::read_to_string(report).unwrap(), csv);
    let (exit, json, _) = run(home.path(), &["attach", &race, "--format=json"]);
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((exit, &document["verdict"]["outcome"]), (130, &Value::from("cancelled")), "{json}");
    let junit = home.path().join("junit.xml");
    run(home.path(), &["attach", &race, &format!("--junit-file={}", junit.display())]);
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains("name=\"refresh\" time=") && xml.contains("errors=\"4\""), "{xml}");
    assert!(xml.contains("the race ended before this task did"), "{xml}");
}

#[test]
fn a_demo_that_is_interrupted_while_its_daemons_start_takes_them_down() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
    command.args(["demo", "--documents=2000"]).env_clear().env("RALLY_HOME", home.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let has_daemon = || {
        let demos = fs::read_dir(home.path().join(".rally/benchmarks")).into_iter().flatten().flatten();
        demos.map(|entry| entry.path().join("hosts")).any(|hosts| hosts.exists())
    };
    while !has_daemon() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_ne!(left_of_demo(home.path()), [""; 0], "there is something to be taken down");
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert_eq!(left_of_demo(home.path()), [""; 0]);
    assert_eq!(fs::read_dir(home.path().join(".rally/benchmarks/races")).unwrap().count(), 0);
}

#[test]
fn a_race_fails_by_its_thresholds_and_says_by_which() {
    let (home, track) = home();
    let junit = home.path().join("junit.xml");
    let race = |condition: &str| {
        let file = format!("--junit-file={}", junit.display());
        let condition = format!("--fail-if={condition}");
        run(home.path(), &["race", &track, "--include-tasks=warm", &condition, "--fail-if=*.error_rate > 0", &file])
    };
    let (exit, _, stderr) = race("warm.service_time.max < 1h");
    assert!(exit == 2 && stderr.contains("expected a unit: us, ms, s or min\n\t"), "{exit} {stderr}");
    let (exit, _, stderr) = race("warn.service_time.max < 1s");
    assert!(exit == 2 && stderr.contains("did you mean `warm`?") && !junit.exists(), "{exit} {stderr}");

    let (exit, _, stderr) = race("warm.service_time.p50 < 60s");
    assert_eq!(exit, 99, "{stderr}");
    assert!(stderr.contains("threshold warm.service_time.p50 < 60s counts as a failure"), "{stderr}");
    assert!(stderr.contains("1 of 2 thresholds hold"), "{stderr}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("tests=\"4\" failures=\"1\" errors=\"0\""), "{xml}");

    let (exit, _, stderr) = race("warm.service_time.p50 > 60s");
    assert!(exit == 0 && stderr.contains("all 2 thresholds hold"), "{exit} {stderr}");
}

#[test]
fn a_race_becomes_a_page_of_its_own() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = runtime.block_on(StandIn::start()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let track = home.path().join("places");
    write_track(&track).unwrap();
    write_corpus(&home.path().join(".rally/benchmarks/data/places/documents.json"), 501).unwrap();
    let (track, hosts) = (format!("--track-path={}", track.display()), format!("--target-hosts={}", target.address()));
    let parameters = "--track-params=document_count:501,bulk_size:100,bulk_clients:2,search_seconds:2";
    let tags = "--user-tags=intention:<b>bold</b>";
    let arguments = ["race", "--race-id=paged", &track, &hosts, parameters, tags, "--fail-if=by-name.latency.p50 > 0"];
    let (exit, _, stderr) = run(home.path(), &arguments);
    assert_eq!(exit, 99, "{stderr}");

    let file = home.path().join("reports/paged.html");
    let output = format!("--output={}", file.display());
    let (exit, _, stderr) = run(home.path(), &["report", "paged", &output]);
    assert!(exit == 0 && stderr.contains("the report of race paged is in"), "{stderr}");
    let page = std::fs::read_to_string(&file).unwrap();
    for expected in [
        "a threshold failed",
        "<h3>by-name</h3>",
        "aria-label=\"Throughput of by-name over time\"",
        "aria-label=\"Latency of by-name over time\"",
        "aria-label=\"Busiest worker of localhost, ",
        "&lt;b&gt;bold&lt;/b&gt;",
        "100th percentile service time",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let (exit, stdout, _) = run(home.path(), &["report", "paged", "--output=-"]);
    assert_eq!((exit, stdout.trim_end()), (0, page.trim_end()));
    let (file, html) = (home.path().join("both.html"), format!("--html={}", home.path().join("both.html").display()));
    let (exit, _, stderr) = run(home.path(), &["compare", "--baseline=paged", "--contender=paged", &html]);
    assert_eq!(exit, 0, "{stderr}");
    let both = std::fs::read_to_string(&file).unwrap();
    assert!(both.contains("Service time, p99 of by-name in both races") && both.contains("+0.00 %"), "{both}");
    let (exit, _, stderr) = run(home.path(), &["report", "other"]);
    assert!(exit == 64 && stderr.contains("No race `other` is in"), "{stderr}");
}
