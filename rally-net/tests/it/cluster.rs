//! Real hosts on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rally_core::HostFacts;
use rally_net::{
    Host, HostConfig, HostEvent, HostState, JoinToken, LinkState, MembershipEvent, Place, StartError, Timing,
    TokenSource,
};
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::time::timeout;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Membership that notices a silence after half a second, so that tests need not wait for five.
pub(crate) fn quick() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(50),
        suspect_after: Duration::from_millis(300),
        dead_after: Duration::from_millis(800),
        dial_timeout: Duration::from_secs(2),
        retry_at_most: Duration::from_millis(300),
        stable_after: Duration::from_secs(1),
        ..Timing::default()
    }
}

/// Membership that gives nobody up, however loaded the machine is: for every test that is not about silence.
pub(crate) fn patient() -> Timing {
    Timing { suspect_after: Duration::from_secs(20), dead_after: Duration::from_secs(30), ..quick() }
}

/// A host with [`patient`] timing.
pub(crate) fn config(directory: &Path, address: SocketAddr, place: Place, name: &str) -> HostConfig {
    HostConfig {
        facts: HostFacts { name: name.to_owned(), version: "1".to_owned(), cores: 2, ..HostFacts::default() },
        timing: patient(),
        ..HostConfig::new(directory, address, place)
    }
}

/// Starts a host where another one of this process has just been dropped; its socket is closed a little later.
pub(crate) async fn start_again(config: HostConfig) -> Host {
    let start = async {
        loop {
            match Host::start(config.clone()).await {
                Err(StartError::AddressInUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other.unwrap(),
            }
        }
    };
    timeout(SOON, start).await.expect("the address in time")
}

/// A coordinator with its directory, as [`config`] has it.
pub(crate) async fn coordinator() -> (TempDir, Host) {
    coordinator_with(|config| config).await
}

/// A coordinator that is not like the others.
pub(crate) async fn coordinator_with(change: impl FnOnce(HostConfig) -> HostConfig) -> (TempDir, Host) {
    let directory = TempDir::new().unwrap();
    let config = config(directory.path(), FREE_PORT, Place::coordinator(), "coordinator");
    let host = Host::start(change(config)).await.unwrap();
    (directory, host)
}

pub(crate) async fn member_in(directory: &Path, coordinator: SocketAddr, token: TokenSource) -> Host {
    member_at(directory, FREE_PORT, coordinator, token).await
}

pub(crate) async fn member_at(
    directory: &Path,
    address: SocketAddr,
    coordinator: SocketAddr,
    token: TokenSource,
) -> Host {
    start_again(config(directory, address, Place::Member { coordinator, token }, "member")).await
}

pub(crate) fn token(coordinator: &Host) -> TokenSource {
    TokenSource::Given(coordinator.create_token(Duration::from_secs(60), "test").unwrap())
}

/// A member that has joined, with its directory.
pub(crate) async fn member_of(coordinator: &Host) -> (TempDir, Host) {
    let directory = TempDir::new().unwrap();
    let host = member_in(directory.path(), coordinator.address(), token(coordinator)).await;
    timeout(SOON, host.joined()).await.expect("in time").expect("let in");
    (directory, host)
}

/// Waits for a change of membership that fits.
pub(crate) async fn until(events: &mut broadcast::Receiver<HostEvent>, mut fits: impl FnMut(&MembershipEvent) -> bool) {
    let wait = async {
        loop {
            if let HostEvent::Membership(event) = events.recv().await.unwrap()
                && fits(&event)
            {
                return;
            }
        }
    };
    timeout(SOON, wait).await.expect("the change in time");
}

pub(crate) async fn refusal(host: &Host) -> String {
    timeout(SOON, host.joined()).await.expect("in time").expect_err("refused").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_is_listed_everywhere_and_says_goodbye() {
    let (_a, coordinator) = coordinator().await;
    let mut events = coordinator.events();
    let (_b, member) = member_of(&coordinator).await;
    let id = member.id().unwrap();
    until(&mut events, |event| event.host == id).await;

    let status = member.status().await;
    assert!(matches!(status.coordinator.link, LinkState::Connected { suspect: false, .. }), "{status:?}");
    assert_eq!(status.hosts.iter().map(|host| host.facts.name.as_str()).collect::<Vec<_>>(), ["coordinator", "member"]);
    assert_eq!(status.hosts[1].id, id);
    assert_eq!(status.hosts[1].address, member.address());
    assert_eq!(coordinator.status().await.hosts.len(), 2);

    member.stop(SOON).await;
    until(&mut events, |event| event.change == rally_net::HostChange::Left).await;
    assert_eq!(coordinator.status().await.hosts[1].state, HostState::Left);
    coordinator.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_start_before_its_coordinator() {
    let (directory, first) = coordinator().await;
    let (address, token) = (first.address(), token(&first));
    first.stop(SOON).await;

    let home = TempDir::new().unwrap();
    let member = member_in(home.path(), address, token).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(matches!(member.status().await.coordinator.link, LinkState::Connecting { .. }));

    let again = Host::start(config(directory.path(), address, Place::coordinator(), "coordinator")).await.unwrap();
    timeout(SOON, member.joined()).await.expect("in time").expect("let in");
    assert_eq!(again.epoch().0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_member_is_the_same_host_in_a_new_epoch() {
    let (_a, coordinator) = coordinator().await;
    let (home, member) = member_of(&coordinator).await;
    let (id, address) = (member.id().unwrap(), member.address());
    let mut events = coordinator.events();
    drop(member);
    let again = member_at(home.path(), address, coordinator.address(), TokenSource::None).await;
    timeout(SOON, again.joined()).await.expect("in time").expect("let in");
    assert_eq!(again.id(), Some(id));
    assert_eq!(again.epoch().0, 2);
    until(&mut events, |event| event.epoch.0 == 2).await;
    assert_eq!(coordinator.status().await.hosts.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_coordinator_finds_its_members_again() {
    let (directory, first) = coordinator().await;
    let (_b, member) = member_of(&first).await;
    let address = first.address();
    drop(first);
    let again = start_again(config(directory.path(), address, Place::coordinator(), "coordinator")).await;
    let mut events = again.events();
    if again.status().await.hosts.len() < 2 {
        until(&mut events, |event| Some(event.host) == member.id()).await;
    }
    assert!(again.peer(member.id().unwrap()).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_machine_the_token_is_found_by_itself() {
    let (directory, coordinator) = coordinator().await;
    let home = TempDir::new().unwrap();
    let local = TokenSource::CoordinatorDirectory(directory.path().to_owned());
    let member = member_in(home.path(), coordinator.address(), local).await;
    timeout(SOON, member.joined()).await.expect("in time").expect("let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_good_are_refused_with_the_reason() {
    let (_a, coordinator) = coordinator().await;
    let (_b, other) = self::coordinator().await;
    let good = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    let revoked = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    coordinator.revoke_token(revoked.id).unwrap();
    let expired = coordinator.create_token(Duration::from_secs(1), "").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let foreign = other.create_token(Duration::from_secs(60), "").unwrap();
    let wrong = JoinToken { secret: foreign.secret.clone(), ..good.clone() };
    for (token, words) in [
        (wrong, "secret"),
        (revoked, "revoked"),
        (expired, "expired"),
        (foreign, "authority is not the one in the join token"),
    ] {
        let home = TempDir::new().unwrap();
        let member = member_in(home.path(), coordinator.address(), TokenSource::Given(token)).await;
        let refusal = refusal(&member).await;
        assert!(refusal.contains(words), "{words}: {refusal}");
        assert_eq!(member.id(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_of_another_cluster_is_refused() {
    let (_a, coordinator) = coordinator().await;
    let (_b, other) = self::coordinator().await;
    let (home, member) = member_of(&other).await;
    member.stop(SOON).await;
    let stray = member_in(home.path(), coordinator.address(), TokenSource::None).await;
    let refusal = refusal(&stray).await;
    assert!(refusal.contains("cluster") || refusal.contains("authority"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_live_host_is_refused_and_told_where_the_other_one_is() {
    let (_a, coordinator) = coordinator().await;
    let (home, member) = member_of(&coordinator).await;
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let place = Place::Member { coordinator: coordinator.address(), token: TokenSource::None };
    // It takes its own timing for the coordinator's: once it has tried for longer than a host that is the same would stay
    // in its way, it gives up.
    let config = HostConfig { timing: quick(), ..config(copy.path(), FREE_PORT, place, "twin") };
    let twin = Host::start(config).await.unwrap();
    let refusal = refusal(&twin).await;
    assert!(refusal.contains(&member.address().to_string()), "{refusal}");
    assert!(coordinator.peer(member.id().unwrap()).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_why() {
    let (_a, coordinator) = coordinator().await;
    let home = TempDir::new().unwrap();
    let member = |address, coordinator| {
        config(home.path(), address, Place::Member { coordinator, token: TokenSource::None }, "m")
    };
    let taken = Host::start(member(coordinator.address(), coordinator.address())).await.unwrap_err();
    assert!(matches!(taken, StartError::AddressInUse { .. }), "{taken}");
    let nowhere = Host::start(member("192.0.2.1:0".parse().unwrap(), coordinator.address())).await.unwrap_err();
    assert!(matches!(nowhere, StartError::NoSuchAddress { .. }), "{nowhere}");
    // Packets from the loopback address never leave the machine.
    let elsewhere = "192.0.2.1:1900".parse().unwrap();
    let unroutable = Host::start(member(FREE_PORT, elsewhere)).await.unwrap_err();
    assert!(matches!(unroutable, StartError::NoRoute { coordinator, .. } if coordinator == elsewhere), "{unroutable}");
    let tokenless = Host::start(member(FREE_PORT, coordinator.address())).await.unwrap_err();
    assert!(matches!(tokenless, StartError::NoToken { .. }), "{tokenless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_never_answers_is_tried_again_and_the_user_told_what_to_check() {
    let (_a, coordinator) = coordinator().await;
    // As a firewall that drops everything, one way or the other.
    let silence = tokio::net::UdpSocket::bind(FREE_PORT).await.unwrap();
    let address = silence.local_addr().unwrap();
    let home = TempDir::new().unwrap();
    let member = member_in(home.path(), address, token(&coordinator)).await;
    let advice = format!(
        "no answer within 2 s from {address}: check that rallyd runs there as the coordinator, and that UDP port {} is \
         open in both directions",
        address.port()
    );
    let told = async {
        loop {
            match member.status().await.coordinator.link {
                LinkState::Connecting { attempts, last_error: Some(error), .. } if attempts > 1 => return error,
                LinkState::Connecting { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(timeout(SOON, told).await.expect("a second attempt in time"), advice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_hosts_agree_on_the_time() {
    let (_a, coordinator) = coordinator().await;
    let (_b, member) = member_of(&coordinator).await;
    let agreed = async {
        while member.clock().estimate().is_none_or(|estimate| estimate.error > 5_000_000) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, agreed).await.expect("an estimate in time");
    let error = member.clock().estimate().unwrap().error;
    let before = coordinator.clock().now().unwrap();
    let there = member.clock().now().unwrap();
    let after = coordinator.clock().now().unwrap();
    assert!(there.as_nanos() + error >= before.as_nanos() && there.as_nanos() <= after.as_nanos() + error);
    let start = after + Duration::from_millis(30);
    let (a, b) = tokio::join!(coordinator.at(start), member.at(start));
    a.and(b).unwrap();
    assert!(coordinator.clock().now().unwrap() >= start);
}
