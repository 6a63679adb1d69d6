//! How long a race and its tasks took, as the events of the race tell.

use std::time::Duration;

use rally_core::{ClusterTime, RaceEventKind, RaceId};

use crate::archive::{Archive, ArchiveError};

/// The steps of a race with their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RaceTimes {
    began: Option<ClusterTime>,
    ended: Option<ClusterTime>,
    steps: Vec<StepTimes>,
}

#[derive(Clone, Debug, PartialEq)]
struct StepTimes {
    tasks: Vec<String>,
    started: ClusterTime,
    ended: Option<ClusterTime>,
}

impl RaceTimes {
    /// Takes what happened at a moment; events come in their order.
    pub fn add(&mut self, at: ClusterTime, event: &RaceEventKind) {
        match event {
            RaceEventKind::Started { .. } => self.began = Some(at),
            RaceEventKind::StepStarted { step, tasks, .. } => self.steps.push(StepTimes {
                tasks: tasks.iter().map(|task| task.name.clone()).collect(),
                started: step.start,
                ended: None,
            }),
            RaceEventKind::StepEnded { .. } => {
                if let Some(step) = self.steps.last_mut() {
                    step.ended = Some(at);
                }
            }
            RaceEventKind::Ended(_) => self.ended = Some(at),
            // Without a meaning for times.
            _ => {}
        }
    }

    /// Reads the log of an archived race. One that is not there tells nothing, and a torn line is left out.
    ///
    /// # Errors
    ///
    /// If it is there but cannot be read.
    pub fn load(archive: &Archive, race: &RaceId) -> Result<Self, ArchiveError> {
        let mut times = Self::default();
        for event in archive.events(race)? {
            let (at, event) = event?;
            times.add(at, &event);
        }
        Ok(times)
    }

    /// From the beginning of the race to its end; none if either is not known.
    #[must_use]
    pub fn race(&self) -> Option<Duration> {
        Some(self.ended?.saturating_since(self.began?))
    }

    /// The tasks that were begun, in their order, each with the time of its step; none if the step has not ended.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, Option<Duration>)> {
        self.steps.iter().flat_map(|step| {
            let time = step.ended.map(|ended| ended.saturating_since(step.started));
            step.tasks.iter().map(move |task| (task.as_str(), time))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_from_the_log_of_a_race_as_far_as_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (archive, race) = (Archive::new(directory.path()), "r".parse().unwrap());
        assert_eq!(RaceTimes::load(&archive, &race).unwrap(), RaceTimes::default());
        let second = |seconds: u64| seconds * 1_000_000_000;
        let step = |until: u32, start: u64, names: &[&str]| {
            let tasks: Vec<_> =
                names.iter().enumerate().map(|(index, name)| json!({"task": index, "name": name})).collect();
            json!({"StepStarted": {"step": {"until": until, "start": second(start)}, "of": 2, "tasks": tasks}})
        };
        let lines = [
            (1, json!({"Started": {"challenge": "c", "drivers": []}})),
            (2, step(1, 3, &["index"])),
            (7, json!({"StepEnded": {"until": 1}})),
            (8, step(2, 9, &["search", "wait"])),
        ];
        let text = lines.map(|(at, event)| json!({"at": second(at), "event": event}).to_string()).join("\n");
        std::fs::create_dir_all(archive.directory(&race)).unwrap();
        std::fs::write(archive.events_path(&race), text + "\n{\"at\": 12, \"ev").unwrap();
        let times = RaceTimes::load(&archive, &race).unwrap();
        let expected = [("index", Some(Duration::from_secs(4))), ("search", None), ("wait", None)];
        assert_eq!(times.tasks().collect::<Vec<_>>(), expected);
        assert_eq!(times.race(), None);
    }
}
