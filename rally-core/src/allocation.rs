//! Which client runs which task when: Rally's allocation matrix, and its spread over load drivers.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::JoinPoint;
use crate::track::Challenge;

/// A task by its position in [`Challenge::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskIndex(pub u32);

/// A task as one client runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientTask {
    /// The task.
    pub task: TaskIndex,
    /// Which of the task's clients this is, counted from 0.
    pub client_in_task: u32,
    /// Which of the schedule element's clients this is, counted from 0 over all its tasks.
    pub client_in_element: u32,
    /// Clients of the schedule element; with the one before it makes the delay of a ramp-up.
    pub clients_of_element: u32,
}

/// What ends a step for all of its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// Each task ends by itself.
    #[default]
    Each,
    /// The others end as soon as all clients of this task are done.
    By(TaskIndex),
    /// All end with whichever task is done first.
    Any,
}

/// One schedule element: what lies between two join points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedStep {
    /// The join point at its end.
    pub until: JoinPoint,
    /// What ends it early.
    pub completion: Completion,
    /// For each client of the race, the tasks that it runs one after the other.
    pub rows: Vec<Vec<ClientTask>>,
}

/// The whole matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Clients of the race: what the largest schedule element needs, at least one.
    pub clients: u32,
    /// The steps in order; step 0 ends at join point 1.
    pub steps: Vec<AllocatedStep>,
}

impl Allocation {
    /// Allocates the tasks of a challenge to clients as Rally does it.
    ///
    /// The tasks of an element take consecutive clients. If it needs more clients than the race has, because it declares
    /// fewer than its tasks want, they wrap around, and a client runs several tasks one after the other.
    #[must_use]
    pub fn new(challenge: &Challenge) -> Self {
        let clients = challenge.schedule.iter().map(|element| element.clients()).max().unwrap_or(1).max(1);
        let mut task = 0;
        let mut steps = Vec::with_capacity(challenge.schedule.len());
        for (index, element) in challenge.schedule.iter().enumerate() {
            let mut rows = vec![Vec::new(); clients as usize];
            let mut completion = Completion::Each;
            let mut logical = 0;
            for allocated in element.tasks() {
                let id = TaskIndex(task);
                task += 1;
                if allocated.completes_parent {
                    completion = Completion::By(id);
                } else if allocated.any_completes_parent {
                    completion = Completion::Any;
                }
                for client_in_task in 0..allocated.clients {
                    rows[(logical % clients) as usize].push(ClientTask {
                        task: id,
                        client_in_task,
                        client_in_element: logical,
                        clients_of_element: element.clients(),
                    });
                    logical += 1;
                }
            }
            steps.push(AllocatedStep { until: JoinPoint(index as u32 + 1), completion, rows });
        }
        Self { clients, steps }
    }

    /// The step that ends at a join point.
    #[must_use]
    pub fn step(&self, until: JoinPoint) -> Option<&AllocatedStep> {
        self.steps.get((until.0 as usize).checked_sub(1)?)
    }
}

/// Spreads the clients of a race over drivers in proportion to their cores.
///
/// Every driver gets a contiguous range, in the order given; ranges may be empty. The sum is exact: shares are the
/// differences of the rounded running totals.
#[must_use]
pub fn spread(clients: u32, cores: &[u32]) -> Vec<Range<u32>> {
    let total: u64 = cores.iter().map(|&cores| u64::from(cores.max(1))).sum();
    let mut before = 0_u64;
    cores
        .iter()
        .map(|&cores| {
            let bound = |cores: u64| ((u64::from(clients) * cores + total / 2) / total) as u32;
            let start = bound(before);
            before += u64::from(cores.max(1));
            start..bound(before)
        })
        .collect()
}
