//! Loads whatever comes: the input is cut into the files of a track at each byte 0.
//!
//! Nothing may panic, overflow the stack, or run for longer than the limits allow. `.ci/fuzz` builds and runs it.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rally_core::track::{LoadOptions, Limits, MemoryFiles, load_track};

/// The names of the files, in the order of the pieces.
const NAMES: [&str; 4] = ["track.json", "index.json", "challenges/a.json", "params.json"];

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut files = MemoryFiles::new();
    for (name, part) in NAMES.iter().zip(text.split('\0')) {
        files.insert(name, part);
    }
    let parameters = text.split('\0').nth(3).and_then(object).unwrap_or_default();
    let options = LoadOptions {
        parameters,
        test_mode: true,
        serverless: text.len().is_multiple_of(2),
        limits: Limits { steps: 20_000, output_bytes: 1 << 20, ..Limits::default() },
        ..LoadOptions::default()
    };
    match load_track(Arc::new(files), &options) {
        Ok(loaded) => {
            let _ = loaded.to_json();
            let again = LoadOptions { name: loaded.track.name.clone(), ..LoadOptions::default() };
            if loaded.track.challenges.iter().all(|challenge| challenge.tasks().next().is_some()) {
                let _ = load_track(Arc::new(loaded.track.to_files()), &again);
            }
        }
        Err(error) => {
            let _ = error.to_json();
        }
    }
});

fn object(text: &str) -> Option<rally_core::track::JsonObject> {
    text.parse::<serde_json::Value>().ok()?.as_object().cloned()
}
