//! Challenges: named schedules of tasks.

use serde::{Deserialize, Serialize};

use super::{JsonObject, Task};

/// A named schedule of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Challenge {
    /// The name, unique in the track.
    pub name: String,
    /// What the challenge is about, for readers.
    pub description: Option<String>,
    /// Shown to the user when the race starts.
    pub user_info: Option<String>,
    /// Added to the metadata of what is measured.
    pub meta: JsonObject,
    /// Parameters of the track and of the challenge, merged. They are stored with the race and have no effect.
    pub parameters: JsonObject,
    /// Whether this one is run unless another one is asked for.
    pub default: bool,
    /// Whether the user asked for this one, or there is no other.
    pub selected: bool,
    /// Whether the track only has a schedule, and the challenge was made for it.
    pub auto_generated: bool,
    /// What filters for serverless did to this challenge, in sentences.
    pub serverless_info: Vec<String>,
    /// What is run, one after the other.
    pub schedule: Vec<ScheduleElement>,
}

impl Challenge {
    /// All tasks in the order of the schedule, those of parallel elements included.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.schedule.iter().flat_map(|element| element.tasks())
    }

    /// All tasks in the order of the schedule, those of parallel elements included.
    pub fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.schedule.iter_mut().flat_map(|element| element.tasks_mut())
    }
}

/// One step of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleElement {
    /// A single task.
    Task(Box<Task>),
    /// Tasks that run at the same time.
    Parallel(Parallel),
}

impl ScheduleElement {
    /// The task, or the tasks that run in parallel.
    #[must_use]
    pub fn tasks(&self) -> &[Task] {
        match self {
            Self::Task(task) => std::slice::from_ref(task),
            Self::Parallel(parallel) => &parallel.tasks,
        }
    }

    /// The task, or the tasks that run in parallel.
    pub fn tasks_mut(&mut self) -> &mut [Task] {
        match self {
            Self::Task(task) => std::slice::from_mut(task),
            Self::Parallel(parallel) => &mut parallel.tasks,
        }
    }

    /// Clients that the step needs.
    #[must_use]
    pub fn clients(&self) -> u32 {
        match self {
            Self::Task(task) => task.clients,
            Self::Parallel(parallel) => parallel.clients(),
        }
    }
}

/// Tasks that run at the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parallel {
    /// Clients that the track declares for all tasks together.
    pub declared_clients: Option<u32>,
    /// The tasks. A filter may have left none.
    pub tasks: Vec<Task>,
    /// Everything else that the track says of the element, as it is written.
    pub params: JsonObject,
}

impl Parallel {
    /// The declared number of clients, or else those of all tasks.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.declared_clients
            .unwrap_or_else(|| self.tasks.iter().fold(0, |sum: u32, task| sum.saturating_add(task.clients)))
    }
}
