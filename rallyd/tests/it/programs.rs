//! What programs read: the documents of `--format=json`.

use std::path::Path;
use std::process::{Command, Output};

use rallyd::demo::write_track;
use serde_json::{Value, json};

struct Home(tempfile::TempDir);

impl Home {
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
        let Output { status, stdout, stderr } =
            command.args(arguments).env_clear().env("RALLY_HOME", self.0.path()).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Runs a command with `--format=json` that must end with this exit code, and returns its document.
    fn json(&self, expected: i32, arguments: &[&str]) -> Value {
        let (exit, stdout, stderr) = self.run(&[arguments, &["--format=json"]].concat());
        assert_eq!(exit, expected, "{arguments:?}: {stdout}\n{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error} in\n{stdout}"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.run(&["stop", "--all"]);
    }
}

fn keys(document: &Value) -> Vec<&str> {
    document.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn daemons_and_tokens_are_documents() {
    let home = Home(tempfile::tempdir().unwrap());
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let started =
        home.json(0, &["start", "--node-ip=127.0.0.1", "--coordinator-ip=127.0.0.1", &format!("--port={port}")]);
    let pid = started["pid"].clone();
    let expected = json!({
        "address": address, "pid": pid, "role": "coordinator", "coordinator": address, "joined": true, "last_error": null,
    });
    assert_eq!(started, expected);

    let token = home.json(0, &["token", "--lifetime=1h"]);
    assert!(token["join_string"].as_str().unwrap().starts_with("rally1-"), "{token}");
    assert_eq!((&token["lifetime_seconds"], &token["coordinator"]), (&json!(3600), &json!(address)));
    let tokens = home.json(0, &["token", "list"]);
    let id =
        tokens["tokens"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap()).next_back().unwrap();
    assert_eq!(home.json(0, &["token", "revoke", id]), json!({"revoked": id}));

    let restarted = home.json(0, &["restart"]);
    assert_eq!(restarted["address"], json!(address));
    let stopped = home.json(0, &["stop"]);
    let daemon = json!({"address": address, "pid": restarted["pid"], "ended": "stopped"});
    assert_eq!(stopped, json!({"daemons": [daemon]}));
}

#[test]
fn what_there_is_to_race_is_a_document() {
    let home = Home(tempfile::tempdir().unwrap());
    let track = home.0.path().join("places");
    write_track(&track).unwrap();
    let path = |path: &Path| format!("--track-path={}", path.display());

    let tracks = home.json(0, &["list", "tracks", &path(&track)]);
    assert_eq!(tracks["tracks"][0]["name"], "places");
    assert_eq!(tracks["tracks"][0]["documents"], 50_000);
    assert_eq!(tracks["tracks"][0]["challenges"], json!(["index-and-search"]));
    let valid = home.json(0, &["validate-track", &path(&track)]);
    assert_eq!(valid, json!({"track": "places", "valid": true, "warnings": []}));
    let rendered = home.json(0, &["render-track", &path(&track)]);
    assert_eq!(rendered["corpora"][0]["name"], "places", "{rendered}");
    std::fs::write(track.join("track.json"), "{\"version\": 2, \"challenges\": 7}").unwrap();
    let invalid = home.json(64, &["validate-track", &path(&track)]);
    assert!(invalid["error"]["message"].is_string() || invalid["error"]["faults"].is_array(), "{invalid}");

    let telemetry = home.json(0, &["list", "telemetry"]);
    let devices = telemetry["telemetry"].as_array().unwrap();
    assert!(devices.iter().any(|device| device["name"] == "node-stats" && device["of-nodes"] == false), "{telemetry}");
    assert_eq!(keys(&devices[0]), ["name", "description", "of-nodes"]);
    let pipelines = home.json(0, &["list", "pipelines"]);
    assert_eq!(pipelines["pipelines"][0]["name"], "benchmark-only");
    assert_eq!(home.json(0, &["list", "races"]), json!({"races": [], "running": []}));
}
