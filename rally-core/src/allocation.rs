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
        let clients = clients(challenge);
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

    /// Places of the matrix of a challenge: its clients in every step, and the clients of all of its tasks. The memory that
    /// [`Allocation::new`] needs grows with them.
    #[must_use]
    pub fn places(challenge: &Challenge) -> u64 {
        let rows = u64::from(clients(challenge)).saturating_mul(challenge.schedule.len() as u64);
        challenge.tasks().fold(rows, |places, task| places.saturating_add(u64::from(task.clients)))
    }

    /// The step that ends at a join point.
    #[must_use]
    pub fn step(&self, until: JoinPoint) -> Option<&AllocatedStep> {
        self.steps.get((until.0 as usize).checked_sub(1)?)
    }
}

/// Clients of a race: what the largest schedule element needs, at least one.
fn clients(challenge: &Challenge) -> u32 {
    challenge.schedule.iter().map(|element| element.clients()).max().unwrap_or(1).max(1)
}

/// The most places that [`Allocation::places`] of a challenge may be; its matrix then takes less than 512 MiB.
pub const MAX_PLACES: u64 = 4_000_000;

/// Spreads the clients of a race over drivers in proportion to their cores.
///
/// Every driver gets a contiguous range, in the order given; the first ones get what is left over, and ranges may be
/// empty. A driver that does not know its cores counts as one with a single core.
#[must_use]
pub fn spread(clients: u32, cores: &[u32]) -> Vec<Range<u32>> {
    let total: u128 = cores.iter().map(|&cores| u128::from(cores.max(1))).sum();
    let mut before = 0_u128;
    let mut start = 0;
    cores
        .iter()
        .map(|&cores| {
            before += u128::from(cores.max(1));
            let end = (u128::from(clients) * before).div_ceil(total) as u32;
            let range = start..end;
            start = end;
            range
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::track::{ChallengeBuilder, Operation, ParallelBuilder, Task, TaskBuilder, Track};

    fn task(name: &str, clients: u32) -> TaskBuilder {
        Task::builder(Operation::builder("sleep").property("duration", 1)).name(name).clients(clients)
    }

    fn allocate(build: impl FnOnce(ChallengeBuilder) -> ChallengeBuilder) -> Allocation {
        let challenge = build(Challenge::builder("c").default_challenge());
        let track = Track::builder("t").challenge(challenge).build().unwrap();
        Allocation::new(track.challenge("c").unwrap())
    }

    /// A step as text: for each client its tasks, each as task, client of the task and client of the element.
    fn rows(step: &AllocatedStep) -> Vec<String> {
        let entry = |it: &ClientTask| {
            format!("{}:{}/{} of {}", it.task.0, it.client_in_task, it.client_in_element, it.clients_of_element)
        };
        step.rows.iter().map(|row| row.iter().map(entry).collect::<Vec<_>>().join(", ")).collect()
    }

    #[test]
    fn plain_tasks_take_the_first_clients() {
        let allocation = allocate(|challenge| challenge.task(task("index", 2)).task(task("search", 3)));
        assert_eq!(allocation.clients, 3);
        assert_eq!(allocation.steps.iter().map(|step| step.until.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows(&allocation.steps[0]), ["0:0/0 of 2", "0:1/1 of 2", ""]);
        assert_eq!(rows(&allocation.steps[1]), ["1:0/0 of 3", "1:1/1 of 3", "1:2/2 of 3"]);
        assert_eq!(allocation.step(JoinPoint(0)), None);
        assert_eq!(allocation.step(JoinPoint(3)), None);
    }

    #[test]
    fn tasks_of_a_parallel_element_take_consecutive_clients() {
        let allocation = allocate(|challenge| {
            challenge
                .parallel(ParallelBuilder::new().task(task("index", 2)).task(task("search", 1)).completed_by("index"))
        });
        assert_eq!(rows(&allocation.steps[0]), ["0:0/0 of 3", "0:1/1 of 3", "1:0/2 of 3"]);
        assert_eq!(allocation.steps[0].completion, Completion::By(TaskIndex(0)));
    }

    #[test]
    fn an_element_that_declares_fewer_clients_wraps_around_the_largest_number_of_the_challenge() {
        let parallel = || {
            let tasks = ParallelBuilder::new().task(task("a", 2)).task(task("b", 2)).task(task("c", 1));
            tasks.property("clients", 2)
        };
        let allocation = allocate(|challenge| challenge.parallel(parallel()));
        assert_eq!(allocation.clients, 2);
        let expected = ["0:0/0 of 2, 1:0/2 of 2, 2:0/4 of 2", "0:1/1 of 2, 1:1/3 of 2"];
        assert_eq!(rows(&allocation.steps[0]), expected);

        // Another element needs more clients, so the limit limits less.
        let allocation = allocate(|challenge| challenge.parallel(parallel()).task(task("d", 4)));
        assert_eq!(rows(&allocation.steps[0]), ["0:0/0 of 2, 2:0/4 of 2", "0:1/1 of 2", "1:0/2 of 2", "1:1/3 of 2"]);
    }

    #[test]
    fn clients_are_spread_by_cores_and_the_first_drivers_get_the_rest() {
        for (clients, cores, expected) in [
            (1, &[8, 8, 8][..], vec![0..1, 1..1, 1..1]),
            (4, &[8, 8, 8], vec![0..2, 2..3, 3..4]),
            (9, &[2, 4], vec![0..3, 3..9]),
            (5, &[0, 1], vec![0..3, 3..5]),
            (7, &[u32::MAX, u32::MAX, u32::MAX], vec![0..3, 3..5, 5..7]),
            (3, &[1, 1], vec![0..2, 2..3]),
            (3, &[], vec![]),
        ] {
            assert_eq!(spread(clients, cores), expected, "{clients} over {cores:?}");
        }
    }

    proptest! {
        #[test]
        fn every_client_is_on_exactly_one_driver(clients in 1..5000_u32, cores in prop::collection::vec(0..256_u32, 1..20)) {
            let ranges = spread(clients, &cores);
            let spread: Vec<u32> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(spread, (0..clients).collect::<Vec<_>>());
            let total: u32 = cores.iter().map(|&cores| cores.max(1)).sum();
            for (range, &cores) in ranges.iter().zip(&cores) {
                let fair = f64::from(clients) * f64::from(cores.max(1)) / f64::from(total);
                prop_assert!((f64::from(range.end - range.start) - fair).abs() < 1.0);
            }
        }
    }
}
