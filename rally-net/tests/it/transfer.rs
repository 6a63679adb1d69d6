//! Files over real connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rally_core::ContentHash;
use rally_net::{Fetch, FetchError, FetchProgress, Fetched, Host, PeerSource, Place, Source, fetch};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{FREE_PORT, SOON, config, coordinator, member_of, patient, start_again, token};
use crate::network::member_behind;
use crate::relay::{Relay, Weather};

/// Several groups, so that there is something to share and to resume.
const LENGTH: usize = (8 << 20) + 12_345;

fn content() -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

/// Puts the content on a host's shelf.
async fn offer(host: &Host, directory: &Path) -> ContentHash {
    let path: PathBuf = directory.join("offered");
    std::fs::write(&path, content()).unwrap();
    host.shelf().add(path).await.unwrap()
}

fn request(content: ContentHash, directory: &TempDir) -> Fetch {
    Fetch { content, directory: directory.path().to_owned(), name: "fetched".parse().unwrap(), range: None }
}

async fn fetch_from(request: &Fetch, sources: Vec<Arc<dyn Source>>) -> Result<Fetched, FetchError> {
    let progress = watch::Sender::new(FetchProgress::default());
    timeout(SOON, fetch(request, &sources, &progress)).await.expect("an end in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_fetches_from_the_coordinator_and_the_coordinator_from_a_member() {
    let (here, coordinator) = coordinator().await;
    let (there, member) = member_of(&coordinator).await;
    let target = TempDir::new().unwrap();
    for (owner, directory, peer) in [
        (&coordinator, &here, member.coordinator().unwrap()),
        (&member, &there, coordinator.peer(member.id().unwrap()).unwrap()),
    ] {
        let request = request(offer(owner, directory.path()).await, &target);
        let fetched = fetch_from(&request, vec![Arc::new(PeerSource::new(peer))]).await.unwrap();
        assert_eq!((fetched.length, fetched.resumed, fetched.failures.len()), (LENGTH as u64, 0, 0));
        assert!(std::fs::read(&fetched.path).unwrap() == content());
        std::fs::remove_file(fetched.path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_fetches_from_two_hosts_at_once_and_one_of_them_may_have_nothing() {
    let (here, coordinator) = coordinator().await;
    let (there, other) = member_of(&coordinator).await;
    let (_c, empty) = member_of(&coordinator).await;
    let (_d, member) = member_of(&coordinator).await;
    let content_hash = offer(&coordinator, here.path()).await;
    assert_eq!(offer(&other, there.path()).await, content_hash);
    let mut sources: Vec<Arc<dyn Source>> = vec![Arc::new(PeerSource::new(member.coordinator().unwrap()))];
    for host in [&other, &empty] {
        let peer = member.connect(host.id().unwrap(), host.address()).await.unwrap();
        assert_eq!(peer.host(), host.id().unwrap());
        sources.push(Arc::new(PeerSource::new(peer)));
    }
    let target = TempDir::new().unwrap();
    let fetched = fetch_from(&request(content_hash, &target), sources).await.unwrap();
    assert!(std::fs::read(fetched.path).unwrap() == content());
    // Whether the one without the file was asked at all is a matter of time.
    assert!(fetched.failures.len() <= 1, "{:?}", fetched.failures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_fetched_alone() {
    let (here, coordinator) = coordinator().await;
    let (_b, member) = member_of(&coordinator).await;
    let target = TempDir::new().unwrap();
    let range = 1_000_000..1_500_001;
    let request = Fetch { range: Some(range.clone()), ..request(offer(&coordinator, here.path()).await, &target) };
    let source = Arc::new(PeerSource::new(member.coordinator().unwrap()));
    let fetched = fetch_from(&request, vec![source]).await.unwrap();
    assert!(std::fs::read(fetched.path).unwrap() == content()[range.start as usize..range.end as usize]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_nobody_offers_is_an_error_that_names_who_was_asked() {
    let (_a, coordinator) = coordinator().await;
    let (_b, member) = member_of(&coordinator).await;
    let target = TempDir::new().unwrap();
    let source = Arc::new(PeerSource::new(member.coordinator().unwrap()));
    let nowhere = ContentHash::from_bytes([9; 32]);
    let error = fetch_from(&request(nowhere, &target), vec![source]).await.unwrap_err().to_string();
    assert!(error.contains("coordinator (127.0.0.1:") && error.contains("does not offer"), "{error}");
    assert_eq!(
        std::fs::read_dir(target.path())
            .unwrap()
            .filter(|entry| { !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.') })
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_goes_on_where_it_was_cut_off() {
    let (here, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let (_b, member) = member_behind(&relay, &coordinator, patient()).await;
    let target = TempDir::new().unwrap();
    let request = request(offer(&coordinator, here.path()).await, &target);
    let source: Arc<dyn Source> = Arc::new(PeerSource::new(member.coordinator().unwrap()));

    // The cable is pulled as soon as a first part has arrived, and the fetch given up.
    let progress = watch::Sender::new(FetchProgress::default());
    let mut arrived = progress.subscribe();
    let sources = [Arc::clone(&source)];
    let done = tokio::select! {
        fetched = fetch(&request, &sources, &progress) => panic!("{fetched:?} before the cut"),
        some = async { arrived.wait_for(|progress| progress.done > 0).await.unwrap().done } => some,
    };
    relay.set(Weather::cut());
    assert!(done < LENGTH as u64);
    assert!(!target.path().join("fetched").exists());

    relay.set(Weather::default());
    let fetched = fetch_from(&request, vec![source]).await.unwrap();
    assert!(fetched.resumed >= done, "{fetched:?}");
    assert!(std::fs::read(fetched.path).unwrap() == content());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_bears_a_bad_network() {
    let (here, coordinator) = coordinator().await;
    let relay = Relay::to(coordinator.address()).await;
    let (_b, member) = member_behind(&relay, &coordinator, patient()).await;
    relay.set(Weather { loss: 0.01, repeated: 0.01, ..Weather::default() });
    let target = TempDir::new().unwrap();
    let request = request(offer(&coordinator, here.path()).await, &target);
    let source = Arc::new(PeerSource::new(member.coordinator().unwrap()));
    let fetched = fetch_from(&request, vec![source]).await.unwrap();
    assert!(std::fs::read(fetched.path).unwrap() == content());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_at_an_address_is_no_source() {
    let (_a, coordinator) = coordinator().await;
    let (_b, one) = member_of(&coordinator).await;
    let (_c, two) = member_of(&coordinator).await;
    let error = one.connect(one.id().unwrap(), two.address()).await.unwrap_err().to_string();
    assert!(error.contains("answers instead"), "{error}");
    let home = TempDir::new().unwrap();
    let nobody: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
    let place = Place::Member { coordinator: nobody, token: token(&coordinator) };
    let stranger = Host::start(config(home.path(), FREE_PORT, place, "stranger")).await.unwrap();
    let error = stranger.connect(two.id().unwrap(), two.address()).await.unwrap_err();
    assert!(matches!(error, rally_net::ConnectError::NotJoined), "{error}");
}

/// A member as a source for another host, found at an address.
fn source(asking: &Host, host: &Host, address: std::net::SocketAddr, name: &str) -> Arc<dyn Source> {
    asking.source(host.id().unwrap(), address, name)
}

/// Who has delivered how much.
fn served(fetched: &Fetched) -> Vec<(&str, u64)> {
    fetched.served.iter().map(|served| (served.name.as_str(), served.bytes)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_fetches_from_another_one_and_the_coordinator_sees_nothing_of_it() {
    let (_a, coordinator) = coordinator().await;
    let (there, other) = member_of(&coordinator).await;
    // All that this member and the coordinator say to each other goes through the relay, and is counted.
    let relay = Relay::to(coordinator.address()).await;
    let (_c, member) = member_behind(&relay, &coordinator, patient()).await;
    let request = request(offer(&other, there.path()).await, &TempDir::new().unwrap());
    std::fs::create_dir_all(&request.directory).unwrap();
    let fetched = fetch_from(&request, vec![source(&member, &other, other.address(), "other")]).await.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == content());
    assert_eq!(served(&fetched), [("other", LENGTH as u64)]);
    // The content has more packets than this.
    assert!(relay.carried() < 2_000, "{} packets to and from the coordinator", relay.carried());
    std::fs::remove_dir_all(request.directory).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_offers_that_cannot_be_reached_comes_through_the_coordinator() {
    let (_a, coordinator) = coordinator().await;
    let (there, other) = member_of(&coordinator).await;
    let (_c, member) = member_of(&coordinator).await;
    let target = TempDir::new().unwrap();
    let request = request(offer(&other, there.path()).await, &target);
    // At this address another host answers, and is found out.
    let hidden = source(&member, &other, member.address(), "other");
    let fetched = fetch_from(&request, vec![Arc::clone(&hidden)]).await.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == content());
    assert_eq!(served(&fetched), [("other", LENGTH as u64)]);
    assert!(coordinator.shelf().manifest(request.content).is_err(), "the coordinator keeps nothing of it");

    // What it does not offer is said as if it had been asked itself.
    let nowhere = Fetch { content: ContentHash::from_bytes([9; 32]), ..request.clone() };
    let error = fetch_from(&nowhere, vec![Arc::clone(&hidden)]).await.unwrap_err().to_string();
    assert!(error.contains("other: does not offer"), "{error}");

    // Once the host is gone, both ways are named.
    other.stop(SOON).await;
    std::fs::remove_file(&fetched.path).unwrap();
    let error = fetch_from(&request, vec![hidden]).await.unwrap_err().to_string();
    assert!(error.contains("other: could not connect to the host"), "{error}");
    assert!(error.contains("through the coordinator: coordinator (127.0.0.1:"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_in_the_middle_is_replaced_by_another() {
    let (_a, coordinator) = coordinator().await;
    let (home, dying) = member_of(&coordinator).await;
    let (there, other) = member_of(&coordinator).await;
    let (_d, member) = member_of(&coordinator).await;
    let target = TempDir::new().unwrap();
    let request = request(offer(&dying, home.path()).await, &target);
    let first = source(&member, &dying, dying.address(), "dying");

    // The first that is asked dies as soon as a part has arrived.
    let progress = watch::Sender::new(FetchProgress::default());
    let mut arrived = progress.subscribe();
    let second = source(&member, &other, other.address(), "other");
    let sources = [first, second];
    let death = async {
        arrived.wait_for(|progress| progress.done > 0).await.unwrap();
        drop(dying);
        drop(home);
    };
    assert_eq!(offer(&other, there.path()).await, request.content);
    let (fetched, ()) =
        timeout(SOON, async { tokio::join!(fetch(&request, &sources, &progress), death) }).await.unwrap();
    let fetched = fetched.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == content());
    let total: u64 = fetched.served.iter().map(|served| served.bytes).sum();
    assert_eq!(total, LENGTH as u64, "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_falls_silent_holds_nobody_up() {
    let (_a, coordinator) = coordinator().await;
    let (home, silent) = member_of(&coordinator).await;
    let (there, other) = member_of(&coordinator).await;
    let (_d, member) = member_of(&coordinator).await;
    let relay = Relay::to(silent.address()).await;
    let target = TempDir::new().unwrap();
    let request = request(offer(&silent, home.path()).await, &target);
    offer(&other, there.path()).await;
    let sources =
        [source(&member, &silent, relay.address(), "silent"), source(&member, &other, other.address(), "other")];
    let progress = watch::Sender::new(FetchProgress::default());
    let mut arrived = progress.subscribe();
    let cut = async {
        arrived.wait_for(|progress| progress.done > 0).await.unwrap();
        relay.set(Weather::cut());
    };
    let (fetched, ()) = timeout(SOON, async { tokio::join!(fetch(&request, &sources, &progress), cut) }).await.unwrap();
    let fetched = fetched.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == content());
    assert_eq!(fetched.served.iter().map(|served| served.bytes).sum::<u64>(), LENGTH as u64, "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_another_member_that_broke_is_made_again() {
    let (_a, coordinator) = coordinator().await;
    let (there, other) = member_of(&coordinator).await;
    let (_c, member) = member_of(&coordinator).await;
    let content = offer(&other, there.path()).await;
    let source = source(&member, &other, other.address(), "other");
    source.manifest(content).await.unwrap();
    // The other host starts again at its address, with its identity.
    let (address, place) =
        (other.address(), Place::Member { coordinator: coordinator.address(), token: token(&coordinator) });
    other.stop(SOON).await;
    let other = start_again(config(there.path(), address, place, "member")).await;
    timeout(SOON, other.joined()).await.unwrap().unwrap();
    assert_eq!(offer(&other, there.path()).await, content);
    let manifest = timeout(SOON, source.manifest(content)).await.unwrap().unwrap();
    assert_eq!(manifest.length(), LENGTH as u64);
}
