//! The list of races.

use comfy_table::{Table, presets};
use rally_core::metrics::RaceDocument;
use serde_json::{Value, json};

use super::tags_text;

/// Rally's columns, and how the races ended.
#[must_use]
pub fn races_table(races: &[RaceDocument]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "Race ID",
        "Race Timestamp",
        "Track",
        "Challenge",
        "Car",
        "ES Version",
        "Revision",
        "Rally Version",
        "Track Revision",
        "Team Revision",
        "User Tags",
        "Outcome",
    ]);
    for race in races {
        let cluster = |key: &str| race.cluster.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        table.add_row([
            race.race_id.to_string(),
            race.race_timestamp.clone(),
            race.track.clone(),
            race.challenge.clone().unwrap_or_default(),
            race.car.join("+"),
            cluster("distribution-version"),
            cluster("revision"),
            race.rally_version.clone(),
            race.track_revision.clone().unwrap_or_default(),
            cluster("team-revision"),
            tags_text(&race.user_tags),
            outcome(race).to_owned(),
        ]);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A race without an outcome still runs, or whoever ran it died.
fn outcome(race: &RaceDocument) -> &'static str {
    use rally_core::RaceOutcome::{Cancelled, Completed, Failed, Incomplete};
    match (race.outcome, &race.results) {
        (Some(Completed), _) => "completed",
        (Some(Cancelled), _) => "cancelled",
        (Some(Failed), _) => "failed",
        // A race of the original with results has run to its end.
        (None, Some(_)) => "completed",
        (Some(Incomplete), _) | (None, None) | (Some(_), _) => "incomplete",
    }
}

/// The same for programs: Rally's object.
#[must_use]
pub fn races_json(races: &[RaceDocument]) -> Value {
    json!({"races": races})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race(change: Value) -> RaceDocument {
        let mut race = json!({
            "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": "r", "challenge": "c",
            "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only", "track": "geonames",
            "user-tags": {"name": "nightly", "setup": 3}, "car": ["4gheap", "ea"],
            "cluster": {"distribution-version": "8.15.0"},
        });
        let Value::Object(change) = change else { panic!("an object is needed") };
        race.as_object_mut().unwrap().extend(change);
        serde_json::from_value(race).unwrap()
    }

    #[test]
    fn the_list_says_how_races_ended() {
        let races = [
            race(json!({"outcome": "completed", "results": {"cluster_name": "default", "op_metrics": []}})),
            race(json!({"race-id": "died", "challenge": null})),
            race(json!({"race-id": "theirs", "results": {"cluster_name": "default", "op_metrics": []}})),
            race(json!({"race-id": "stopped", "outcome": "cancelled"})),
        ];
        insta::assert_snapshot!(races_table(&races));
        assert_eq!(races_json(&races)["races"][1]["race-id"], "died");
    }
}
