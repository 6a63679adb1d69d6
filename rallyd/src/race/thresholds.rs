//! The thresholds of a race: those of the command line, and those of the track.

use rally_core::metrics::{Threshold, ThresholdTask};
use rally_core::track::{JsonObject, Track};
use serde_json::Value;

use super::plan::PlanError;

/// The flag that gives thresholds.
pub(super) const FLAG: &str = "--fail-if";

/// The key of thresholds in the `meta` of a track or of a challenge, where the original tolerates it.
const KEY: &str = "fail-if";

/// How alike names are that are suggested, from 0 to 1.
const SIMILAR: f64 = 0.6;

/// Reads all thresholds. Those of the track are taken out of it, since they are no metadata of what is measured.
///
/// With `is_filtered`, thresholds of the track may be about tasks that were left out; they are left out, too.
pub(super) fn thresholds(
    given: &[String],
    track: &mut Track,
    challenge: &str,
    is_filtered: bool,
) -> Result<Vec<Threshold>, PlanError> {
    let mut texts: Vec<(String, String)> = given.iter().map(|text| (FLAG.to_owned(), text.clone())).collect();
    let place = format!("`{KEY}` in the meta of track `{}`", track.name);
    texts.extend(taken(&mut track.meta, place)?);
    let mut tasks = Vec::new();
    if let Some(challenge) = track.challenges.iter_mut().find(|it| it.name == challenge) {
        let place = format!("`{KEY}` in the meta of challenge `{}`", challenge.name);
        texts.extend(taken(&mut challenge.meta, place)?);
        tasks = challenge.tasks().map(|task| task.name.clone()).collect();
    }
    let mut thresholds = Vec::new();
    for (place, text) in texts {
        let is_optional = is_filtered && place != FLAG;
        let threshold: Threshold =
            text.parse().map_err(|source| PlanError::Threshold { place: place.clone(), source })?;
        match &threshold.task {
            ThresholdTask::Named(task) if !tasks.contains(task) => {
                if !is_optional {
                    return Err(PlanError::ThresholdTask { place, task: task.clone(), hint: hint(task, &tasks) });
                }
            }
            ThresholdTask::Named(_) | ThresholdTask::Every => thresholds.push(threshold),
        }
    }
    Ok(thresholds)
}

/// Takes the texts out of the metadata, each with its place.
fn taken(meta: &mut JsonObject, place: String) -> Result<Vec<(String, String)>, PlanError> {
    let texts = match meta.remove(KEY) {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(texts) => serde_json::from_value(texts).map_err(|_| PlanError::ThresholdList { place: place.clone() })?,
    };
    Ok(texts.into_iter().map(|text| (place.clone(), text)).collect())
}

/// The name that was probably meant, else all that there are.
fn hint(task: &str, tasks: &[String]) -> String {
    let similar = tasks.iter().map(|name| (strsim::jaro_winkler(task, name), name));
    match similar.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((likeness, name)) if likeness >= SIMILAR => format!("did you mean `{name}`?"),
        Some(_) => format!("its tasks are {}", tasks.join(", ")),
        None => "it has no task".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rally_core::track::{Challenge, Operation, Task};
    use serde_json::json;

    use super::*;

    fn track(track_meta: &Value, challenge_meta: &Value) -> Track {
        let task = |name: &str| Task::builder(Operation::builder("sleep")).name(name);
        let challenge = Challenge::builder("c").default_challenge().task(task("search")).task(task("index-append"));
        let mut track = Track::builder("t").challenge(challenge).build().unwrap();
        track.meta = track_meta.as_object().unwrap().clone();
        track.challenges[0].meta = challenge_meta.as_object().unwrap().clone();
        track
    }

    fn read(given: &[&str], track: &mut Track, is_filtered: bool) -> Result<Vec<String>, String> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let thresholds = thresholds(&given, track, "c", is_filtered);
        let texts = |thresholds: Vec<Threshold>| thresholds.iter().map(ToString::to_string).collect();
        thresholds.map(texts).map_err(|error| crate::causes::causes(&error).join(": "))
    }

    #[test]
    fn thresholds_come_from_the_command_line_the_track_and_its_challenge() {
        let mut track = track(
            &json!({"fail-if": "*.error_rate > 0", "purpose": "nightly"}),
            &json!({"fail-if": ["search.latency.p99 > 1s"]}),
        );
        let thresholds = read(&["index-append.duration>1min"], &mut track, false).unwrap();
        assert_eq!(thresholds, ["index-append.duration > 1min", "*.error_rate > 0", "search.latency.p99 > 1s"]);
        assert_eq!(Value::Object(track.meta), json!({"purpose": "nightly"}));
        assert!(track.challenges[0].meta.is_empty());
    }

    #[test]
    fn a_threshold_about_no_task_is_refused_unless_the_task_was_left_out() {
        let nothing = json!({});
        let error = read(&["serch.error_rate > 0"], &mut track(&nothing, &nothing), true).unwrap_err();
        assert_eq!(error, "--fail-if: the challenge has no task `serch`; did you mean `search`?");
        let error = read(&["zzz.error_rate > 0"], &mut track(&nothing, &nothing), true).unwrap_err();
        assert!(error.ends_with("its tasks are search, index-append"), "{error}");
        let of_track = json!({"fail-if": ["gone.error_rate > 0"]});
        let error = read(&[], &mut track(&nothing, &of_track), false).unwrap_err();
        assert!(
            error.starts_with("`fail-if` in the meta of challenge `c`: the challenge has no task `gone`"),
            "{error}"
        );
        assert_eq!(read(&[], &mut track(&nothing, &of_track), true), Ok(Vec::new()));
        let error = read(&["search.speed > 0"], &mut track(&nothing, &nothing), false).unwrap_err();
        assert!(error.starts_with("--fail-if: expected throughput,"), "{error}");
        let error = read(&[], &mut track(&json!({"fail-if": 3}), &nothing), false).unwrap_err();
        assert_eq!(error, "`fail-if` in the meta of track `t` must be a text, or a list of texts");
    }
}
