//! JSON from other hosts: the plan of a race, its report, and what telemetry devices say. The first byte tells which.
//!
//! Nothing may panic or grow without bound, and what was understood can be said again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_core::metrics::{RaceDocument, RaceMetrics, RaceReport, TelemetryTotals};
use rally_core::{Allocation, RaceId, RacePlan};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((b'p', json)) => plan(json),
        Some((b'r', json)) => report(json),
        Some((b't', json)) => telemetry(json),
        _ => (),
    }
});

fn plan(json: &[u8]) {
    let Ok(plan) = RacePlan::from_json(json) else { return };
    serde_json::to_vec(&plan).expect("what was decoded can be encoded");
    if let Some(challenge) = plan.challenge() {
        let allocation = Allocation::new(challenge);
        assert_eq!(allocation.steps.len(), challenge.schedule.len());
        let _ = RaceMetrics::default().results(&plan.track, challenge);
    }
    let race = RaceId::try_from("race".to_owned()).expect("it is an id");
    let _ = RaceDocument::new(race, &plan, "0", None);
}

fn report(json: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<RaceReport>(json) {
        serde_json::to_vec(&report).expect("what was decoded can be encoded");
    }
}

fn telemetry(json: &[u8]) {
    let Ok(records) = serde_json::from_slice::<Vec<Value>>(json) else { return };
    let mut metrics = RaceMetrics::default();
    let mut totals = TelemetryTotals::default();
    for record in &records {
        metrics.add_telemetry(record);
        totals.add(record);
    }
    let _ = totals.results();
}
