//! A track as a person wants to see it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use comfy_table::{Table, presets};
use rally_core::track::{Challenge, LoadedTrack, PluginNeeds, ScheduleElement, Task, Track, TrackRegistry};
use serde_json::{Value, json};

/// Describes a track: its size, and the schedule of the selected challenge or of all.
pub(super) fn describe(loaded: &LoadedTrack) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_track(&mut out, &loaded.track);
    out
}

fn write_track(out: &mut String, track: &Track) -> fmt::Result {
    writeln!(out, "Showing details for track [{}]:\n", track.name)?;
    writeln!(out, "* Description: {}", track.description)?;
    if track.number_of_documents() > 0 {
        writeln!(out, "* Documents: {}", grouped(track.number_of_documents()))?;
        writeln!(out, "* Compressed Size: {}", size(track.compressed_size_in_bytes()))?;
        writeln!(out, "* Uncompressed Size: {}", size(track.uncompressed_size_in_bytes()))?;
    }
    if track.has_python_plugin {
        writeln!(out, "* Plugin: track.py")?;
    }
    let selected = track.selected_challenge();
    for challenge in track.challenges.iter().filter(|challenge| selected.is_none_or(|one| one.name == challenge.name)) {
        writeln!(out)?;
        write_challenge(out, challenge)?;
    }
    Ok(())
}

fn write_challenge(out: &mut String, challenge: &Challenge) -> fmt::Result {
    if !challenge.auto_generated {
        let default = if challenge.default { " (run by default)" } else { "" };
        let title = format!("Challenge [{}]{default}", challenge.name);
        let line = "=".repeat(title.chars().count());
        writeln!(out, "{line}\n{title}\n{line}\n")?;
        if let Some(description) = &challenge.description {
            writeln!(out, "{description}\n")?;
        }
    }
    for message in &challenge.serverless_info {
        writeln!(out, "{message}\n")?;
    }
    writeln!(out, "Schedule:\n---------\n")?;
    let needs = TrackRegistry::new().missing(challenge);
    for (number, element) in (1..).zip(&challenge.schedule) {
        match element {
            ScheduleElement::Task(task) => writeln!(out, "{number}. {}", task_line(task, &needs))?,
            ScheduleElement::Parallel(parallel) => {
                let tasks = parallel.tasks.len();
                let clients = clients(parallel.clients()).map(|text| format!(" ({text})")).unwrap_or_default();
                let any = parallel.tasks.iter().any(|task| task.any_completes_parent);
                let end = if any { ", until any of them ends" } else { "" };
                writeln!(out, "{number}. {tasks} parallel tasks{clients}{end}:")?;
                for (inner, task) in (1..).zip(&parallel.tasks) {
                    writeln!(out, "\t{number}.{inner} {}", task_line(task, &needs))?;
                }
            }
        }
    }
    if !needs.is_empty() {
        writeln!(out, "\nNeeds a plugin for:")?;
        for line in needs.to_string().lines() {
            writeln!(out, "* {line}")?;
        }
    }
    Ok(())
}

fn task_line(task: &Task, needs: &PluginNeeds) -> String {
    let mut facts = Vec::new();
    if task.operation.name != task.name {
        facts.push(format!("operation {}", task.operation.name));
    }
    facts.extend(clients(task.clients));
    if let Some(target) = &task.target_throughput {
        facts.push(target.to_string());
    }
    facts.extend(task.schedule.as_ref().map(|schedule| format!("schedule {schedule}")));
    facts.extend(length(task.warmup_iterations, task.warmup_time_period).map(|length| format!("warm-up {length}")));
    facts.extend(task.ramp_up_time_period.map(|period| format!("ramp-up {}", seconds(period))));
    facts.extend(length(task.iterations, task.time_period));
    if task.completes_parent {
        facts.push("completes the parallel tasks".to_owned());
    }
    if needs.concerns(&task.name) {
        facts.push("needs a plugin".to_owned());
    }
    if facts.is_empty() { task.name.clone() } else { format!("{} ({})", task.name, facts.join(", ")) }
}

fn clients(clients: u32) -> Option<String> {
    (clients > 1).then(|| format!("{clients} clients"))
}

fn length(iterations: Option<u64>, period: Option<Duration>) -> Option<String> {
    match (iterations, period) {
        (Some(1), _) => Some("1 iteration".to_owned()),
        (Some(iterations), _) => Some(format!("{} iterations", grouped(iterations))),
        (None, period) => period.map(seconds),
    }
}

fn seconds(period: Duration) -> String {
    format!("{} s", period.as_secs())
}

/// The table of all tracks of a repository.
pub(super) fn table(mut tracks: Vec<Track>) -> Table {
    tracks.sort_by(|a, b| a.name.cmp(&b.name));
    let is_plain = |track: &Track| track.default_challenge().is_some_and(|challenge| challenge.auto_generated);
    let schedules_only = tracks.iter().all(is_plain);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["Name", "Description", "Documents", "Compressed Size", "Uncompressed Size"];
    if !schedules_only {
        header.extend(["Default Challenge", "All Challenges"]);
    }
    table.set_header(header);
    for track in &tracks {
        let mut row = vec![
            track.name.clone(),
            track.description.clone(),
            grouped(track.number_of_documents()),
            size(track.compressed_size_in_bytes()),
            size(track.uncompressed_size_in_bytes()),
        ];
        if !schedules_only {
            let mut names: Vec<_> = track.challenges.iter().map(|challenge| challenge.name.as_str()).collect();
            names.sort_unstable();
            row.push(track.default_challenge().map(|challenge| challenge.name.clone()).unwrap_or_default());
            row.push(names.join(","));
        }
        table.add_row(row);
    }
    table
}

/// The same for programs.
pub(super) fn list(mut tracks: Vec<Track>) -> Value {
    tracks.sort_by(|a, b| a.name.cmp(&b.name));
    let document = |track: &Track| {
        json!({
            "name": track.name,
            "description": track.description,
            "documents": track.number_of_documents(),
            "compressed-bytes": track.compressed_size_in_bytes(),
            "uncompressed-bytes": track.uncompressed_size_in_bytes(),
            "default-challenge": track.default_challenge().map(|challenge| &challenge.name),
            "challenges": track.challenges.iter().map(|challenge| &challenge.name).collect::<Vec<_>>(),
        })
    };
    json!({"tracks": tracks.iter().map(document).collect::<Vec<_>>()})
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "N/A".to_owned() };
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rally_core::track::{LoadOptions, MemoryFiles, load_track};
    use std::sync::Arc;

    #[test]
    fn the_schedule_says_what_is_run_how_often_how_long_and_how_fast() {
        let files = MemoryFiles::new().with("track.py", "").with(
            "track.json",
            r#"{
                "description": "A track",
                "corpora": [{"name": "c", "target-index": "i", "documents": [
                    {"source-file": "d.json.bz2", "document-count": 11396503, "target-index": "i",
                     "compressed-bytes": 265208777, "uncompressed-bytes": 3547613828}]}],
                "indices": [{"name": "i"}],
                "challenges": [{"name": "index-and-search", "description": "Index, then search.", "schedule": [
                    "PLACEHOLDER",
                    {"parallel": {"completed-by": "bulk", "warmup-time-period": 120, "tasks": [
                        {"operation": {"operation-type": "bulk", "bulk-size": 5000}, "clients": 8},
                        {"name": "sampler", "operation": {"operation-type": "knn-recall", "param-source": "knn"},
                         "target-throughput": "10 docs/s"}
                    ]}},
                    {"operation": "search", "warmup-iterations": 500, "iterations": 1000, "target-interval": 2}
                ]}]
            }"#
            .replace("\"PLACEHOLDER\"", r#"{"operation": "delete-index"}"#),
        );
        let options = LoadOptions { name: "mine".to_owned(), ..LoadOptions::default() };
        insta::assert_snapshot!(describe(&load_track(Arc::new(files), &options).unwrap()));
    }

    #[test]
    fn parallel_tasks_that_end_together_and_schedulers_are_seen() {
        let track = r#"{"schedule": [{"parallel": {"completed-by": "any", "tasks": [
            {"operation": "search", "target-throughput": 5, "schedule": "poisson"}, {"operation": "refresh"}]}}]}"#;
        let files = MemoryFiles::new().with("track.json", track);
        let text = describe(&load_track(Arc::new(files), &LoadOptions::default()).unwrap());
        let schedule = "1. 2 parallel tasks (2 clients), until any of them ends:\n\
                        \t1.1 search (5 ops/s, schedule poisson)\n\t1.2 refresh\n";
        assert!(text.ends_with(schedule), "{text}");
    }

    #[test]
    fn sizes_and_numbers_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        assert_eq!(size(Some(265_208_777)), "252.9 MB");
        assert_eq!(size(Some(12)), "12 bytes");
        assert_eq!(size(None), "N/A");
    }
}
