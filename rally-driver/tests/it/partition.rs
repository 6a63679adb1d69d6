//! However many workers and drivers there are, the same work is done.

use futures_util::future::join_all;
use proptest::prelude::*;
use rally_core::StopMode;
use rally_core::allocation::{Allocation, spread};
use rally_core::track::{ChallengeBuilder, ParallelBuilder};

use crate::fixture::{Calls, Race, challenge, plan, scripted, takes, task};

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
    join_all(races.iter_mut().map(Race::prepared)).await;
    for until in 1..=shape.len() as u32 {
        for race in &races {
            race.begin(until).await;
        }
        for told in join_all(races.iter_mut().map(Race::until_reached)).await {
            assert_eq!(told.failure(), None);
        }
    }
    join_all(races.iter_mut().map(|race| race.stop(StopMode::Drain))).await;
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
