//! However many workers and drivers there are, the same work is done.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use rally_core::allocation::{Allocation, spread};
use rally_core::track::{Challenge, ChallengeBuilder, Corpus, Documents, Operation, ParallelBuilder, Task, Track};
use rally_core::{ContentHash, RacePlan, ShippedFile};
use rally_driver::{ContentSource, Params, Registry};

use crate::fixture::{Calls, Companion, Instant, Race, challenge, plan, play, scripted, takes, task};

/// Clients and iterations of a few tasks, some of which run in parallel with fewer clients than they want.
type Shape = Vec<(Vec<(u32, u64)>, Option<u32>)>;

fn shapes() -> impl Strategy<Value = Shape> {
    let element = (prop::collection::vec((1_u32..6, 1_u64..5), 1..4), prop::option::of(1_u32..5));
    prop::collection::vec(element, 1..4)
}

fn build(shape: &Shape) -> ChallengeBuilder {
    let mut number = 0;
    shape.iter().fold(challenge(), |challenge, (tasks, clients)| {
        let element = tasks.iter().fold(ParallelBuilder::new(), |element, &(clients, iterations)| {
            number += 1;
            element.task(task(&format!("task-{number}")).clients(clients).iterations(iterations))
        });
        let element = match clients {
            Some(clients) => element.property("clients", *clients),
            None => element,
        };
        challenge.parallel(element)
    })
}

async fn run_on(shape: &Shape, cores: &[u32]) -> Vec<(String, u32, u64)> {
    let plan = plan(build(shape));
    let (registry, calls): (_, Calls) = scripted(|_| takes(0));
    let clients = Allocation::new(plan.challenge().unwrap()).clients;
    let mut races = Vec::new();
    for (share, &cores) in spread(clients, cores).into_iter().zip(cores) {
        races.push(Race::prepare_share(registry.clone(), &plan, cores, share).await);
    }
    play(races, shape.len() as u32).await;
    calls.what()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn workers_and_drivers_do_exactly_what_one_would(
        shape in shapes(),
        cores in prop::collection::vec(1_u32..4, 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let expected: u64 = shape.iter().flat_map(|(tasks, _)| tasks).map(|(clients, n)| u64::from(*clients) * n).sum();
        let one = runtime.block_on(run_on(&shape, &[1]));
        prop_assert_eq!(one.len() as u64, expected);
        prop_assert_eq!(runtime.block_on(run_on(&shape, &cores)), one);
    }
}

/// A task that indexes corpora.
#[derive(Clone, Debug)]
struct Bulks {
    /// Documents, and whether action lines stand before them.
    sets: Vec<(u64, bool)>,
    clients: u32,
    bulk_size: u64,
    percentage: Option<u32>,
    conflicts: Option<&'static str>,
}

fn bulks() -> impl Strategy<Value = Bulks> {
    let conflicts = prop::option::of(prop::sample::select(vec!["sequential", "random"]));
    let sets = prop::collection::vec((0_u64..60, any::<bool>()), 1..4);
    (sets, 1_u32..7, 1_u64..20, prop::option::of(1_u32..=100), conflicts).prop_map(
        |(mut sets, clients, bulk_size, percentage, conflicts)| {
            sets[0].0 += 1;
            // Documents with action lines have ids of their own.
            sets.iter_mut().for_each(|set| set.1 &= conflicts.is_none());
            Bulks { sets, clients, bulk_size, percentage, conflicts }
        },
    )
}

impl Bulks {
    fn plan(&self) -> RacePlan {
        let mut operation = Operation::builder("bulk").property("bulk-size", self.bulk_size);
        if let Some(percentage) = self.percentage {
            operation = operation.property("ingest-percentage", percentage);
        }
        if let Some(conflicts) = self.conflicts {
            operation = operation.property("conflicts", conflicts).property("on-conflict", "update");
        }
        let mut track = Track::builder("tests").index("i", serde_json::json!({}));
        for (number, (documents, has_action_lines)) in self.sets.iter().enumerate() {
            let set = Documents::builder("d.json", (*documents).max(1));
            let set = if *has_action_lines { set.includes_action_and_meta_data() } else { set };
            track = track.corpus(Corpus::builder(&number.to_string()).documents(set));
        }
        let bulks = Task::builder(operation).clients(self.clients);
        let mut plan = plan(challenge().task(task("another")));
        plan.track = track.challenge(Challenge::builder("only").task(bulks)).build().unwrap();
        plan
    }

    fn text(&self, number: usize) -> String {
        let (documents, has_action_lines) = self.sets[number];
        (0..documents.max(1))
            .map(|document| {
                let action =
                    if has_action_lines { format!("{{\"index\":{{\"_id\":{document}}}}}\n") } else { String::new() };
                format!("{action}{{\"set\":{number},\"document\":{document}}}\n")
            })
            .collect()
    }

    fn write_to(&self, directory: &Path) {
        for number in 0..self.sets.len() {
            let directory = directory.join(number.to_string());
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("d.json"), self.text(number)).unwrap();
        }
    }

    /// The bodies of all bulks, in the order of each client.
    async fn run_on(&self, cores: &[u32], is_shipped: bool) -> Vec<(u32, usize, Bytes)> {
        let home = tempfile::tempdir().unwrap();
        self.write_to(home.path());
        let mut plan = self.plan();
        if is_shipped {
            plan.shipped = (0..self.sets.len()).map(|number| self.shipped(number)).collect();
        }
        let bodies = Arc::<Mutex<Vec<(u32, usize, Bytes)>>>::default();
        let clients = Allocation::new(plan.challenge().unwrap()).clients;
        let mut races = Vec::new();
        for (share, &cores) in spread(clients, cores).into_iter().zip(cores) {
            let (mut registry, bodies) = (Registry::rally(), Arc::clone(&bodies));
            registry.register_runner("bulk", move |setup| {
                let (client, bodies) = (setup.partition.index, Arc::clone(&bodies));
                Ok(Instant::with(setup, Keep { client, number: 0, body: None, bodies }))
            });
            let race = Race::prepare_with(registry, &plan, cores, share, |options| {
                if is_shipped {
                    let plan = Bytes::from(serde_json::to_vec(&plan).unwrap());
                    options.content = Arc::new(Shipper { plan, bulks: self.clone() });
                } else {
                    options.data_dir = home.path().to_owned();
                }
            });
            races.push(race.await);
        }
        play(races, 1).await;
        let mut bodies = bodies.lock().unwrap().clone();
        bodies.sort();
        bodies
    }

    fn shipped(&self, number: usize) -> ShippedFile {
        let text = self.text(number);
        let lines = text.match_indices('\n').map(|(end, _)| end as u64 + 1).enumerate();
        ShippedFile {
            corpus: number.to_string(),
            document_file: "d.json".to_owned(),
            content: ContentHash::from_bytes([number as u8; 32]),
            length: text.len() as u64,
            offsets: lines.map(|(line, end)| (line as u64 + 1, end)).step_by(5).collect(),
        }
    }
}

/// Another host that has the corpora.
struct Shipper {
    plan: Bytes,
    bulks: Bulks,
}

#[async_trait]
impl ContentSource for Shipper {
    async fn fetch(&self, _content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        Ok(self.plan.clone())
    }

    async fn fetch_into(
        &self,
        content: ContentHash,
        range: Range<u64>,
        directory: &Path,
        name: &str,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let text = self.bulks.text(content.as_bytes()[0].into());
        progress(range.end - range.start);
        Ok(fs::write(directory.join(name), &text[range.start as usize..range.end as usize])?)
    }
}

/// Keeps what would be sent.
struct Keep {
    client: u32,
    number: usize,
    body: Option<Bytes>,
    bodies: Arc<Mutex<Vec<(u32, usize, Bytes)>>>,
}

impl Companion for Keep {
    fn prepare(&mut self, params: &Params) {
        self.body.clone_from(&params.body);
    }

    fn run(&mut self) {
        self.bodies.lock().unwrap().push((self.client, self.number, self.body.take().unwrap()));
        self.number += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bulks_do_not_depend_on_workers_and_drivers_nor_on_how_corpora_come(
        bulks in bulks(),
        cores in prop::collection::vec(1_u32..4, 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let one = runtime.block_on(bulks.run_on(&[1], false));
        if bulks.percentage.is_none_or(|percentage| percentage == 100) {
            let all: String = one.iter().map(|(.., body)| std::str::from_utf8(body).unwrap()).collect();
            let documents = bulks.sets.iter().map(|(documents, _)| (*documents).max(1) as usize).sum::<usize>();
            prop_assert_eq!(all.matches("\"document\":").count(), documents);
        }
        prop_assert!(runtime.block_on(bulks.run_on(&cores, false)) == one);
        prop_assert!(runtime.block_on(bulks.run_on(&cores, true)) == one);
    }
}
