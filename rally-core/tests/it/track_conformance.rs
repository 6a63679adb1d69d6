//! Real tracks and what the original Rally makes of them. The tracks are no part of the project: where they lie beside the
//! workspace (or where `RALLY_CONFORMANCE` says), every case is compared; elsewhere the test says that it compares nothing.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::read::GzDecoder;
use rally_core::track::{LoadOptions, TaskSelection, TrackDirectory, load_track};
use serde_json::{Map, Value, json};

/// The clock of the cases, in seconds since the epoch.
const NOW: f64 = 1_750_000_000.25;

fn root() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance"));
    let root = std::env::var_os("RALLY_CONFORMANCE").map_or_else(beside, PathBuf::from);
    root.join("cases.json").exists().then_some(root)
}

fn strings(case: &Value, key: &str) -> Option<Vec<String>> {
    let values = case.get(key)?.as_array()?;
    Some(values.iter().map(|value| value.as_str().unwrap().to_owned()).collect())
}

fn options(track: &str, case: &Value) -> LoadOptions {
    let flag = |key: &str| case.get(key).is_some_and(|flag| flag == true);
    let text = |key: &str| case.get(key).and_then(Value::as_str).map(str::to_owned);
    let tasks = match (strings(case, "include_tasks"), strings(case, "exclude_tasks")) {
        (Some(filters), _) => TaskSelection::Include(filters),
        (None, Some(filters)) => TaskSelection::Exclude(filters),
        (None, None) => TaskSelection::All,
    };
    LoadOptions {
        name: track.rsplit('/').next().unwrap().to_owned(),
        parameters: case.get("params").and_then(Value::as_object).cloned().unwrap_or_default(),
        challenge: text("challenge"),
        tasks,
        test_mode: flag("test_mode"),
        build_flavor: text("build_flavor").unwrap_or_else(|| "default".to_owned()),
        serverless: flag("serverless_mode"),
        serverless_operator: flag("serverless_operator"),
        now: NOW,
        ..LoadOptions::default()
    }
}

/// Lists differences, each with its JSON pointer. Members that only the actual value has do not count at the top.
fn differences(expected: &Value, actual: &Value, pointer: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        _ if pointer == "/track/has_plugins" => {}
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let pointer = format!("{pointer}/{key}");
                match actual.get(key) {
                    Some(other) => differences(value, other, &pointer, found),
                    None => found.push(format!("{pointer}: missing, expected {value}")),
                }
            }
            for key in actual.keys().filter(|key| !expected.contains_key(*key)) {
                found.push(format!("{pointer}/{key}: unexpected"));
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (value, other)) in expected.iter().zip(actual).enumerate() {
                differences(value, other, &format!("{pointer}/{index}"), found);
            }
        }
        (expected, actual) if expected != actual => found.push(format!("{pointer}: {actual}, expected {expected}")),
        _ => {}
    }
}

fn select(value: &Value, keys: &[&str]) -> Value {
    keys.iter().filter_map(|key| Some(((*key).to_owned(), value.get(*key)?.clone()))).collect::<Map<_, _>>().into()
}

fn compare(root: &std::path::Path, track: &str, case: &Value) -> Vec<String> {
    let files = TrackDirectory::new(root.join("tracks").join(track));
    let actual = match load_track(Arc::new(files), &options(track, case)) {
        Ok(loaded) => select(&loaded.to_json(), &["rendered", "track", "exposed_params"]),
        Err(error) => json!({"error": {"stage": error.stage().as_str()}}),
    };
    let name = format!("{}@{}.json.gz", track.replace('/', "~"), case["id"].as_str().unwrap());
    let golden: Value =
        serde_json::from_reader(GzDecoder::new(File::open(root.join("golden").join(name)).unwrap())).unwrap();
    let expected = match golden.get("error") {
        Some(error) => json!({"error": select(error, &["stage"])}),
        None => select(&golden, &["rendered", "track", "exposed_params"]),
    };
    let mut found = Vec::new();
    differences(&expected, &actual, "", &mut found);
    found
}

#[test]
fn real_tracks_load_to_what_rally_makes_of_them() {
    let Some(root) = root() else {
        // Not by `println!`, whose text is shown of failed tests only.
        let said = "skipped: real_tracks_load_to_what_rally_makes_of_them needs ../shared/conformance";
        writeln!(std::io::stderr().lock(), "{said}").unwrap();
        return;
    };
    let cases: Value = serde_json::from_reader(File::open(root.join("cases.json")).unwrap()).unwrap();
    let mut failed = Vec::new();
    let mut compared = 0;
    for (track, cases) in cases["tracks"].as_object().unwrap() {
        for case in cases.as_array().unwrap() {
            compared += 1;
            if let [first, ..] = compare(&root, track, case).as_slice() {
                failed.push(format!("{track}@{}: {first}", case["id"].as_str().unwrap()));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {compared} cases differ:\n{}", failed.len(), failed.join("\n"));
    assert!(compared > 0);
}
