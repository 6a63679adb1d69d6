//! Members and coordinator over a network that behaves as networks do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rally_net::{Host, HostChange, HostConfig, HostEvent, HostState, LinkState, Place, Timing, UplinkEvent};
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

use crate::cluster::{FREE_PORT, SOON, config, coordinator, coordinator_with, patient, quick, token, until};
use crate::relay::{Relay, Weather};

/// A member that reaches its coordinator through a relay.
pub(crate) async fn member_behind(relay: &Relay, coordinator: &Host, timing: Timing) -> (TempDir, Host) {
    let directory = TempDir::new().unwrap();
    let place = Place::Member { coordinator: relay.address(), token: token(coordinator) };
    let config = HostConfig { timing, ..config(directory.path(), FREE_PORT, place, "member") };
    let member = Host::start(config).await.unwrap();
    timeout(SOON, member.joined()).await.expect("in time").expect("let in");
    (directory, member)
}

/// What was published so far, uplinks and membership in one form.
fn published(events: &mut Receiver<HostEvent>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(match event {
            HostEvent::Membership(event) => format!("{:?}", event.change),
            HostEvent::Uplink(UplinkEvent::Connected { .. }) => "Connected".to_owned(),
            HostEvent::Uplink(event) => format!("{event:?}"),
        });
    }
    seen
}

/// Waits for a change of a member's connection that fits.
pub(crate) async fn uplink(events: &mut Receiver<HostEvent>, mut fits: impl FnMut(&UplinkEvent) -> bool) {
    let wait = async {
        loop {
            if let HostEvent::Uplink(event) = events.recv().await.unwrap()
                && fits(&event)
            {
                return;
            }
        }
    };
    timeout(SOON, wait).await.expect("the change in time");
}

async fn member_address(coordinator: &Host) -> SocketAddr {
    coordinator.status().await.hosts[1].address
}

/// A coordinator that notices silence soon.
async fn quick_coordinator() -> (TempDir, Host) {
    coordinator_with(|config| HostConfig { timing: quick(), ..config }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_and_delay_cost_nobody_its_place() {
    let (_a, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let weather = Weather { delay: Duration::from_millis(50), loss: 0.05, repeated: 0.1, ..Weather::default() };
    relay.set(weather);
    // Joining and greeting go through the same weather.
    let (_b, member) = member_behind(&relay, &coordinator, patient()).await;
    let mut events = coordinator.events();
    let carried = relay.carried();
    let wait = async {
        while relay.carried() < carried + 100 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, wait).await.expect("heartbeats flow");
    let seen = published(&mut events);
    assert!(!seen.iter().any(|change| change == "Died"), "{seen:?}");
    let status = member.status().await;
    let round_trip = status.hosts[1].round_trip.expect("measured");
    assert!(round_trip >= Duration::from_millis(100), "{round_trip:?}");
    assert_eq!(status.hosts.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_packets_change_nothing() {
    let (_a, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    relay.set(Weather { repeated: 1.0, ..Weather::default() });
    let (_b, member) = member_behind(&relay, &coordinator, patient()).await;
    let status = member.status().await;
    assert_eq!(status.hosts.len(), 2);
    assert!(matches!(status.coordinator.link, LinkState::Connected { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_cut_is_only_suspected() {
    let timing = Timing { dead_after: Duration::from_secs(15), ..quick() };
    let (_a, coordinator) = coordinator_with(|config| HostConfig { timing: timing.clone(), ..config }).await;
    let relay = Relay::to(coordinator.address()).await;
    let (_b, member) = member_behind(&relay, &coordinator, timing).await;
    let (mut here, mut there) = (coordinator.events(), member.events());
    relay.set(Weather::cut());
    until(&mut here, |event| event.change == HostChange::Suspected).await;
    uplink(&mut there, |event| *event == UplinkEvent::CoordinatorSuspected).await;
    relay.set(Weather::default());
    until(&mut here, |event| event.change == HostChange::Recovered).await;
    uplink(&mut there, |event| *event == UplinkEvent::CoordinatorRecovered).await;
    assert_eq!(published(&mut here), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_cut_is_a_death_from_which_the_same_host_returns() {
    let (_a, coordinator) = quick_coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let (_b, member) = member_behind(&relay, &coordinator, quick()).await;
    let (mut here, mut there) = (coordinator.events(), member.events());
    relay.set(Weather::cut());
    until(&mut here, |event| event.change == HostChange::Suspected).await;
    until(&mut here, |event| event.change == HostChange::Died).await;
    uplink(&mut there, |event| matches!(event, UplinkEvent::CoordinatorLost { .. })).await;
    assert!(coordinator.peer(member.id().unwrap()).is_none());
    assert_eq!(coordinator.status().await.hosts[1].state, HostState::Dead);
    relay.set(Weather::default());
    until(&mut here, |event| event.change == HostChange::Returned).await;
    uplink(&mut there, |event| matches!(event, UplinkEvent::Connected { restarted: false, .. })).await;
    assert_eq!(coordinator.status().await.hosts.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_of_one_way_is_noticed_from_both_sides_and_mends() {
    for weather in [Weather { cut_up: true, ..Weather::default() }, Weather { cut_down: true, ..Weather::default() }] {
        let (_a, coordinator) = quick_coordinator().await;
        let relay = Relay::to(coordinator.address()).await;
        let (_b, member) = member_behind(&relay, &coordinator, quick()).await;
        let (mut here, mut there) = (coordinator.events(), member.events());
        relay.set(weather);
        uplink(&mut there, |event| matches!(event, UplinkEvent::CoordinatorLost { .. })).await;
        until(&mut here, |event| event.change == HostChange::Died).await;
        relay.set(Weather::default());
        until(&mut here, |event| event.change == HostChange::Returned).await;
        let status = coordinator.status().await;
        assert_eq!((status.hosts.len(), status.hosts[1].state), (2, HostState::Alive), "{weather:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_survives_a_new_address_and_the_registry_follows_it() {
    let (_a, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let (_b, member) = member_behind(&relay, &coordinator, patient()).await;
    let (mut here, mut there) = (coordinator.events(), member.events());
    let before = member_address(&coordinator).await;
    assert_eq!(relay.member_addresses(), [before]);
    relay.rebind();
    let begin = Instant::now();
    while member_address(&coordinator).await == before {
        assert!(begin.elapsed() < SOON, "the address never changed");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(relay.member_addresses(), [member_address(&coordinator).await]);
    let peer = coordinator.peer(member.id().unwrap()).expect("still connected");
    assert_eq!(peer.host(), member.id().unwrap());
    let seen = published(&mut there);
    assert!(!seen.iter().any(|event| event.contains("Lost") || event == "Connected"), "{seen:?}");
    let seen = published(&mut here);
    assert!(seen.iter().all(|event| event == "Suspected" || event == "Recovered"), "{seen:?}");
}
