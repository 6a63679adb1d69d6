//! Roles of other hosts, used over real connections.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rally_core::{
    Activity, ClusterTime, ContentHash, Coordinator, HostFacts, JoinPoint, LoadDriver, NodePlan, PlannedNode,
    Provisioner, RaceRequest, Role, RoleError, RoleErrorKind, Sequence, Step, StopMode,
};
use rally_net::{CallError, Host, HostChange, HostConfig, Place, Rejection, Request, Roles, Timing, UplinkEvent};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::cluster::{
    FREE_PORT, SOON, config, coordinator, coordinator_with, member_of, patient, quick, start_again, token, until,
};
use crate::fakes::{Fake, assignment, race, race_status};
use crate::network::uplink;
use crate::relay::{Relay, Weather};

/// A member with a load driver and a provisioner.
pub(crate) struct Playing {
    pub(crate) driver: Arc<Fake>,
    provisioner: Arc<Fake>,
    pub(crate) host: Host,
    _directory: TempDir,
}

impl Playing {
    pub(crate) async fn at(address: std::net::SocketAddr, coordinator: &Host, timing: Timing) -> Self {
        let directory = TempDir::new().unwrap();
        let (driver, provisioner) = (Fake::new(Role::LoadDriver), Fake::new(Role::Provisioner));
        let place = Place::Member { coordinator: address, token: token(coordinator) };
        let roles = Roles {
            load_driver: Some(Arc::<Fake>::clone(&driver)),
            provisioner: Some(Arc::<Fake>::clone(&provisioner)),
            coordinator: None,
        };
        let config = HostConfig { roles, timing, ..config(directory.path(), FREE_PORT, place, "player") };
        let host = Host::start(config).await.unwrap();
        timeout(SOON, host.joined()).await.expect("in time").expect("let in");
        Self { driver, provisioner, host, _directory: directory }
    }

    async fn of(coordinator: &Host) -> Self {
        Self::at(coordinator.address(), coordinator, patient()).await
    }

    pub(crate) fn id(&self) -> rally_core::HostId {
        self.host.id().unwrap()
    }
}

fn step() -> Step {
    Step { until: JoinPoint(1), start: ClusterTime::from_nanos(5) }
}

/// The numbers of the next events.
async fn numbers<E>(
    events: &mut (impl Stream<Item = Result<E, RoleError>> + Unpin),
    count: usize,
    number: fn(&E) -> Sequence,
) -> Vec<u64> {
    let take = async {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let event = events.next().await.expect("another event").expect("no failure");
            numbers.push(number(&event).0);
        }
        numbers
    };
    timeout(SOON, take).await.expect("events in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_driver_is_used_from_afar_as_if_it_were_here() {
    let (_a, coordinator) = coordinator().await;
    let playing = Playing::of(&coordinator).await;
    let driver = coordinator.load_driver(playing.id());
    let race = race("4711");

    assert_eq!(driver.facts().await.unwrap().cores, 96);
    driver.prepare(assignment("4711")).await.unwrap();
    driver.prepare(assignment("4711")).await.unwrap();
    driver.drive(&race, step()).await.unwrap();
    driver.complete_step(&race, JoinPoint(1)).await.unwrap();
    driver.attach_telemetry(&race).await.unwrap();
    let mut events = driver.events(&race, Sequence(2)).await.unwrap();
    playing.driver.happen(4);
    playing.driver.end();
    assert_eq!(numbers(&mut events, 2, |event| event.sequence).await, [3, 4]);
    assert!(timeout(SOON, events.next()).await.expect("an end in time").is_none());
    driver.stop(&race, StopMode::Drain).await.unwrap();
    assert_eq!(
        playing.driver.calls(),
        [
            "facts ()",
            r#"prepare ("4711", 0..8)"#,
            r#"prepare ("4711", 0..8)"#,
            r#"drive ("4711", 1, 5)"#,
            r#"complete_step ("4711", 1)"#,
            r#"attach_telemetry "4711""#,
            r#"events ("4711", 2)"#,
            r#"stop ("4711", Drain)"#,
        ]
    );
    assert_eq!(playing.host.status().await.activity, Activity::Racing { race, roles: vec![Role::LoadDriver] });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioner_is_used_from_afar_as_if_it_were_here() {
    let (_a, coordinator) = coordinator().await;
    let playing = Playing::of(&coordinator).await;
    let provisioner = coordinator.provisioner(playing.id());
    let race = race("4711");

    assert_eq!(provisioner.facts().await.unwrap().name, "fake");
    let node = PlannedNode { name: "rally-node-0".to_owned(), http: "127.0.0.1:39200".parse().unwrap() };
    let bundle = ContentHash::from_bytes([2; 32]);
    provisioner.launch(NodePlan { race: race.clone(), bundle, nodes: vec![node] }).await.unwrap();
    let mut events = provisioner.events(&race, Sequence::START).await.unwrap();
    playing.provisioner.happen(2);
    assert_eq!(numbers(&mut events, 2, |event| event.sequence).await, [1, 2]);
    provisioner.stop(&race, StopMode::Now).await.unwrap();
    assert_eq!(
        playing.provisioner.calls(),
        ["facts ()", r#"launch ("4711", 1)"#, r#"events ("4711", 0)"#, r#"stop ("4711", Now)"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_may_start_watch_and_cancel_a_race() {
    let fake = Fake::new(Role::Coordinator);
    let roles = Roles { coordinator: Some(Arc::<Fake>::clone(&fake)), ..Roles::default() };
    let (_a, coordinator) = coordinator_with(|config| HostConfig { roles, ..config }).await;
    let (_b, member) = member_of(&coordinator).await;
    let remote = member.remote_coordinator();
    let race = race("4711");
    let request = RaceRequest {
        race: race.clone(),
        bundle: ContentHash::from_bytes([3; 32]),
        load_driver_hosts: vec!["player".to_owned()],
        provisioner_hosts: Vec::new(),
        on_driver_loss: Default::default(),
    };
    remote.start_race(request).await.unwrap();
    assert_eq!(remote.current_race().await.unwrap(), Some(race_status()));
    let mut events = remote.events(&race, Sequence::START).await.unwrap();
    fake.happen(1);
    assert_eq!(numbers(&mut events, 1, |event| event.sequence).await, [1]);
    remote.cancel(&race, StopMode::Now).await.unwrap();
    assert_eq!(
        fake.calls(),
        [r#"start_race ("4711", ["player"])"#, "current_race ()", r#"events ("4711", 0)"#, r#"cancel ("4711", Now)"#]
    );
    let error = fake.fail_next(RoleErrorKind::Busy, "race 4711 runs");
    assert_eq!(remote.cancel(&race, StopMode::Now).await, Err(error));
    // Longer than one answer may be.
    assert_eq!(remote.report(&race).await.unwrap(), crate::fakes::report(&race));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_host_role_phase_and_cause() {
    let (_a, coordinator) = coordinator().await;
    let playing = Playing::of(&coordinator).await;
    let driver = coordinator.load_driver(playing.id());
    let race = race("4711");

    // What the role itself says arrives as it is, from a call and from a subscription.
    let said = playing.driver.fail_next(RoleErrorKind::Failed, "no space left on device");
    assert_eq!(driver.facts().await, Err(said));
    let said = playing.driver.fail_next(RoleErrorKind::Invalid, "events are forgotten");
    assert_eq!(driver.events(&race, Sequence::START).await.err(), Some(said));

    // Without a lease nothing runs.
    let refused = driver.drive(&race, step()).await.unwrap_err();
    assert_eq!((refused.kind, refused.role), (RoleErrorKind::Forbidden, Role::LoadDriver));
    assert!(refused.host.contains("player") && refused.cause.contains("lease"), "{refused}");
    assert!(!playing.driver.calls().iter().any(|call| call.starts_with("drive")));

    // A host without the role.
    let (_b, idle) = member_of(&coordinator).await;
    let none = coordinator.load_driver(idle.id().unwrap()).facts().await.unwrap_err();
    assert_eq!((none.kind, none.phase.as_str()), (RoleErrorKind::Failed, "describe its host"));
    assert!(none.host.contains("member") && none.cause.contains("offers no service"), "{none}");

    // A host that has left, and one that never was.
    idle.stop(SOON).await;
    let mut left = coordinator.provisioner(rally_core::HostId::from_random(1)).facts().await.unwrap_err();
    assert_eq!((left.kind, left.role), (RoleErrorKind::Unreachable, Role::Provisioner));
    left = playing.host.load_driver(playing.id()).facts().await.unwrap_err();
    assert_eq!(left.kind, RoleErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_race_on_a_busy_driver_is_told_who_holds_it() {
    let (_a, coordinator) = coordinator().await;
    let playing = Playing::of(&coordinator).await;
    let first = coordinator.load_driver(playing.id());
    let second = coordinator.load_driver(playing.id());
    first.prepare(assignment("first")).await.unwrap();
    let busy = second.prepare(assignment("second")).await.unwrap_err();
    assert_eq!(busy.kind, RoleErrorKind::Busy);
    assert!(busy.phase.contains("race second") && busy.cause.contains("for first"), "{busy}");
    assert_eq!(playing.driver.calls(), [r#"prepare ("first", 0..8)"#]);

    // Dropping the proxy gives the lease back, the role is stopped and free again.
    drop(first);
    playing.driver.called(r#"stop ("first", Now)"#).await;
    second.prepare(assignment("second")).await.unwrap();
    // The same proxy may go on to another race.
    second.prepare(assignment("third")).await.unwrap();
    playing.driver.called(r#"stop ("second", Now)"#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_on_behind_the_last_one_after_the_connection_broke() {
    // The member gives up after a short silence, the coordinator does not: so the member's new connection replaces one
    // that the coordinator still believes in.
    let (_a, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let playing = Playing::at(relay.address(), &coordinator, quick()).await;
    let driver = coordinator.load_driver(playing.id());
    let race = race("4711");
    driver.prepare(assignment("4711")).await.unwrap();
    let mut events = driver.events(&race, Sequence::START).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        playing.driver.happen(2);
        seen.extend(numbers(&mut events, 2, |event| event.sequence).await);
        let mut membership = coordinator.events();
        let mut link = playing.host.events();
        relay.set(Weather::cut());
        // These happen while nobody can hear of them.
        playing.driver.happen(3);
        uplink(&mut link, |event| matches!(event, UplinkEvent::CoordinatorLost { .. })).await;
        relay.set(Weather::default());
        until(&mut membership, |event| event.change == HostChange::Returned).await;
        seen.extend(numbers(&mut events, 3, |event| event.sequence).await);
    }
    assert_eq!(seen, (1..=15).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_stops_within_the_term_when_its_coordinator_is_gone() {
    let (_a, coordinator) = coordinator_with(|config| HostConfig { timing: quick(), ..config }).await;
    let playing = Playing::at(coordinator.address(), &coordinator, quick()).await;
    let driver = coordinator.load_driver(playing.id());
    driver.prepare(assignment("4711")).await.unwrap();
    drop(coordinator);
    playing.driver.called(r#"stop ("4711", Now)"#).await;
    assert_eq!(playing.host.status().await.activity, Activity::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_an_earlier_start_of_the_coordinator_ends_at_once() {
    // So long that the end of the term cannot be what stops the driver.
    let slow = Timing { dead_after: Duration::from_secs(59), ..quick() };
    let (directory, coordinator) = coordinator().await;
    let address = coordinator.address();
    let playing = Playing::at(address, &coordinator, slow).await;
    let driver = coordinator.load_driver(playing.id());
    driver.prepare(assignment("4711")).await.unwrap();
    drop((driver, coordinator));
    let again = start_again(config(directory.path(), address, Place::coordinator(), "coordinator")).await;
    playing.driver.called(r#"stop ("4711", Now)"#).await;

    let mut events = again.events();
    if again.peer(playing.id()).is_none() {
        until(&mut events, |event| event.host == playing.id()).await;
    }
    again.load_driver(playing.id()).prepare(assignment("next")).await.unwrap();
}

#[derive(Debug, Serialize, Deserialize)]
struct DriverFacts {}

impl Request for DriverFacts {
    const NAME: &'static str = "driver/facts";
    type Answer = Result<HostFacts, RoleError>;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_cannot_use_the_roles_of_another_member() {
    let (_a, coordinator) = coordinator().await;
    let playing = Playing::of(&coordinator).await;
    let (_b, member) = member_of(&coordinator).await;
    let peer = member.connect(playing.id(), playing.host.address()).await.unwrap();
    let refused = peer.call(&DriverFacts {}, SOON).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Rejected { rejection: Rejection::CoordinatorOnly(name), .. } if name == "driver/facts"),
        "{refused}"
    );
    assert!(playing.driver.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_stops_its_roles_and_hands_over_their_last_events_before_it_says_goodbye() {
    // Longer than a busy machine keeps a heartbeat back.
    let timing = Timing { suspect_after: Duration::from_secs(2), dead_after: Duration::from_secs(3), ..quick() };
    let (_a, coordinator) = coordinator_with(|config| HostConfig { timing: timing.clone(), ..config }).await;
    let playing = Playing::at(coordinator.address(), &coordinator, timing.clone()).await;
    let driver = coordinator.load_driver(playing.id());
    let race = race("4711");
    driver.prepare(assignment("4711")).await.unwrap();
    let mut events = driver.events(&race, Sequence::START).await.unwrap();
    let mut membership = coordinator.events();

    // It takes longer to stop than a silent host lives.
    playing.driver.take_to_stop(timing.dead_after + timing.suspect_after);
    let (_, last) = tokio::join!(playing.host.stop(SOON), numbers(&mut events, 1, |event| event.sequence));
    assert_eq!(last, [1]);
    assert!(timeout(SOON, events.next()).await.expect("an end in time").is_none());
    assert_eq!(playing.driver.calls().last().unwrap(), r#"stop ("4711", Drain)"#);
    until(&mut membership, |event| {
        assert_ne!(event.change, HostChange::Died);
        event.change == HostChange::Left
    })
    .await;
}
