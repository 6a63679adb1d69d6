//! Requests between real hosts; `rpc` tests every corner of them over a bare connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use rally_core::{RaceId, RaceStatus, Role, RoleError, Sequence};
use rally_net::{CallError, HostConfig, Rejection, Request, Roles};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::cluster::{SOON, coordinator, coordinator_with, member_of};
use crate::fakes::{Fake, race};

#[derive(Debug, Serialize, Deserialize)]
struct CurrentRace {}

impl Request for CurrentRace {
    const NAME: &'static str = "coordinator/current-race";
    type Answer = Result<Option<RaceStatus>, RoleError>;
}

#[derive(Debug, Serialize, Deserialize)]
struct Events {
    race: RaceId,
    after: Sequence,
}

impl Request for Events {
    const NAME: &'static str = "coordinator/events";
    type Answer = Result<rally_core::RaceEvent, RoleError>;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_are_all_answered() {
    let fake = Fake::new(Role::Coordinator);
    let roles = Roles { coordinator: Some(Arc::<Fake>::clone(&fake)), ..Roles::default() };
    let (_a, coordinator) = coordinator_with(|config| HostConfig { roles, ..config }).await;
    let (_b, member) = member_of(&coordinator).await;
    let peer = member.coordinator().unwrap();
    let answers = join_all((0..500).map(|_| peer.call(&CurrentRace {}, SOON))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(Some(_))))));
    assert_eq!(fake.calls().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_subscriptions_hold_other_requests_back_only_until_they_end() {
    let fake = Fake::new(Role::Coordinator);
    let roles = Roles { coordinator: Some(Arc::<Fake>::clone(&fake)), ..Roles::default() };
    let (_a, coordinator) = coordinator_with(|config| HostConfig { roles, ..config }).await;
    let (_b, member) = member_of(&coordinator).await;
    let peer = member.coordinator().unwrap();
    let events = Events { race: race("4711"), after: Sequence::START };
    let subscriptions = join_all((0..64).map(|_| peer.subscribe(&events, SOON))).await;
    let late = peer.call(&CurrentRace {}, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(late, CallError::DeadlinePassed { .. }), "{late}");
    drop(subscriptions);
    peer.call(&CurrentRace {}, SOON).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_a_role_says_so_and_a_lost_host_ends_what_is_open() {
    let (_a, idle) = coordinator().await;
    let (_b, member) = member_of(&idle).await;
    let refused = member.coordinator().unwrap().call(&CurrentRace {}, SOON).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Rejected { rejection: Rejection::UnknownService(name), .. } if name == CurrentRace::NAME),
        "{refused}"
    );

    let fake = Fake::new(Role::Coordinator);
    let roles = Roles { coordinator: Some(fake), ..Roles::default() };
    let (_c, coordinator) = coordinator_with(|config| HostConfig { roles, ..config }).await;
    let (_d, member) = member_of(&coordinator).await;
    let events = Events { race: race("4711"), after: Sequence::START };
    let mut open = member.coordinator().unwrap().subscribe(&events, SOON).await.unwrap();
    coordinator.stop(SOON).await;
    let end = timeout(SOON, open.next()).await.expect("an end in time");
    assert!(matches!(end, Some(Err(CallError::Lost { .. }))), "{end:?}");
}
