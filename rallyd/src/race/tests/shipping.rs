//! Corpora that come from other hosts.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use rally_core::track::{Challenge, Corpus, Documents, Operation, Task, Track};
use rally_core::{
    ContentHash, Coordinator, DataSource, RaceEventKind, RaceId, RaceOutcome, RacePlan, RaceRequest, Sequence,
};
use rally_driver::{Outcome, Params, Registry, RequestTimer, Runner, RunnerError};
use rally_net::{CallError, Rejection};

use super::{Member, plan, request, task};
use crate::archive::Archive;
use crate::race::shipping::{OfferParts, WithdrawCorpora};
use crate::race::{NO_BUNDLE, View, watch};

/// More than there are between three entries of an offset table.
const DOCUMENTS: u64 = 120_000;

/// The length of a document with its line feed.
const LINE: u64 = 19;

/// Remembers the lines of bulks instead of sending them.
struct Remember {
    timer: std::rc::Rc<RequestTimer>,
    body: Option<Bytes>,
    lines: Arc<Mutex<Vec<String>>>,
}

#[async_trait(?Send)]
impl Runner for Remember {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.body.clone_from(&params.body);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.timer.sent();
        self.timer.received();
        let body = self.body.take().unwrap();
        let lines = std::str::from_utf8(&body).unwrap().lines().skip(1).step_by(2);
        self.lines.lock().unwrap().extend(lines.map(str::to_owned));
        Ok(Outcome::default())
    }
}

/// The documents of the corpus; a different `key` makes others of the same length.
fn documents(key: &str) -> Vec<String> {
    (0..DOCUMENTS).map(|number| format!("{{\"{key}\": {number:06}}}")).collect()
}

/// Hosts whose drivers remember what they would send.
struct Cluster {
    coordinator: Member,
    drivers: Vec<(&'static str, Member)>,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A race that has ended well.
struct Ended {
    /// What was sent, in order.
    sent: Vec<String>,
    /// Who told what.
    told: Vec<(String, String)>,
}

impl Cluster {
    async fn of(names: &[&'static str]) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let registry = || {
            let (mut registry, lines) = (Registry::rally(), Arc::clone(&lines));
            registry.register_runner("bulk", move |setup| {
                Ok(Remember { timer: std::rc::Rc::clone(&setup.timer), body: None, lines: Arc::clone(&lines) })
            });
            registry
        };
        let coordinator = Member::coordinator().await;
        let mut drivers = Vec::new();
        for &name in names {
            drivers.push((name, Member::of_with(registry(), &coordinator, name).await));
        }
        Self { coordinator, drivers, lines }
    }

    fn member(&self, name: &str) -> &Member {
        self.drivers.iter().find(|(known, _)| *known == name).map_or(&self.coordinator, |(_, member)| member)
    }

    fn corpus(&self, name: &str) -> PathBuf {
        self.member(name).directory.path().join("data/places")
    }

    /// Puts a file into the corpus on a host.
    fn put(&self, name: &str, file: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.corpus(name)).unwrap();
        std::fs::write(self.corpus(name).join(file), bytes).unwrap();
    }

    fn put_documents(&self, name: &str, documents: &[String]) {
        self.put(name, "d.json", format!("{}\n", documents.join("\n")).as_bytes());
    }

    /// The names and lengths of what a host has of the corpus and is not hidden.
    fn files(&self, name: &str) -> Vec<(String, u64)> {
        let Ok(files) = std::fs::read_dir(self.corpus(name)) else { return Vec::new() };
        let files = files
            .map(Result::unwrap)
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()));
        let mut files: Vec<_> = files.filter(|(name, _)| !name.starts_with('.')).collect();
        files.sort();
        files
    }

    /// Races on all drivers, with corpora that are shipped.
    async fn race(&self, race: &str, document_file: &str) -> Ended {
        let plan = shipping(document_file);
        let bundle = self.coordinator.host.roles().content.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
        let names: Vec<_> = self.drivers.iter().map(|(name, _)| *name).collect();
        let request = request(race, bundle, &names);
        let race: RaceId = request.race.clone();
        let owner = Arc::clone(self.coordinator.host.coordinator().unwrap());
        owner.start_race(request).await.unwrap();
        let verdict = watch(&*owner, &race, &mut View::quiet()).await.unwrap();
        assert_eq!((verdict.outcome, &verdict.errors[..]), (RaceOutcome::Completed, &[][..]), "{verdict:?}");
        owner.settled().await;

        let events = owner.events(&race, Sequence::START).await.unwrap();
        let told = events.filter_map(async |event| match event.unwrap().kind {
            RaceEventKind::Noticed { driver, message } => Some((driver, message)),
            _ => None,
        });
        let mut sent = std::mem::take(&mut *self.lines.lock().unwrap());
        sent.sort();
        Ended { sent, told: told.collect().await }
    }

    /// That no host offers the documents.
    fn nothing_is_offered(&self, documents: &[String]) {
        let text = format!("{}\n", documents.join("\n"));
        let content = ContentHash::from_bytes(*blake3::hash(text.as_bytes()).as_bytes());
        for member in self.drivers.iter().map(|(_, member)| member).chain([&self.coordinator]) {
            assert!(member.host.host().shelf().manifest(content).is_err());
        }
    }
}

/// A race whose bulks read a corpus that is shipped.
fn shipping(document_file: &str) -> RacePlan {
    let mut plan = plan(|challenge| challenge.task(task("nothing", 1)));
    let bulk = Task::builder(Operation::builder("bulk").property("bulk-size", 1_000)).clients(4);
    let documents = Documents::builder(document_file, DOCUMENTS).target_index("i");
    plan.track = Track::builder("t")
        .corpus(Corpus::builder("places").documents(documents))
        .challenge(Challenge::builder("c").task(bulk))
        .build()
        .unwrap();
    plan.data = DataSource::Ship;
    plan
}

impl Ended {
    /// That these documents were sent, each once.
    fn has_sent(&self, documents: &[String]) {
        assert!(self.sent == documents, "{} of {DOCUMENTS} documents were sent", self.sent.len());
    }

    /// From whom a driver had its part of the corpus: what it said of it, without sizes.
    fn sources_of(&self, driver: &str) -> Vec<String> {
        let said = "fetching d.json of corpus places: ";
        let told = self.told.iter().filter(|(host, _)| host == driver);
        let parts = told.filter_map(|(_, message)| message.strip_prefix(said)).flat_map(|text| text.split(", "));
        parts.map(|part| part.split_once(" from ").unwrap().1.to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_corpora_come_from_the_coordinator_and_each_driver_gets_only_its_part() {
    let (cluster, documents) = (Cluster::of(&["a", "b"]).await, documents("number"));
    cluster.put_documents("coordinator", &documents);
    let ended = cluster.race("shipped", "d.json").await;
    ended.has_sent(&documents);
    for (driver, lines) in [("a", 100_000), ("b", 70_000)] {
        let files = cluster.files(driver);
        let [(_, length)] = files[..] else { panic!("{files:?}") };
        assert_eq!(length, lines * LINE);
        assert_eq!(ended.sources_of(driver), ["coordinator"]);
    }
    cluster.nothing_is_offered(&documents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corpus_that_only_a_driver_has_never_comes_to_the_coordinator() {
    let (cluster, documents) = (Cluster::of(&["a", "b", "c"]).await, documents("number"));
    cluster.put_documents("b", &documents);
    let ended = cluster.race("from-a-driver", "d.json").await;
    ended.has_sent(&documents);
    assert_eq!(cluster.files("coordinator"), []);
    assert_eq!(cluster.files("b").len(), 2, "the file and its offset table: {:?}", cluster.files("b"));
    for driver in ["a", "c"] {
        assert_eq!(ended.sources_of(driver), ["b"], "{:?}", ended.told);
        assert_eq!(cluster.files(driver).len(), 1);
    }
    assert!(ended.sources_of("b").is_empty(), "{:?}", ended.told);
    cluster.nothing_is_offered(&documents);

    // Everybody has its part by now; nothing is sent again.
    let ended = cluster.race("again", "d.json").await;
    ended.has_sent(&documents);
    assert!(["a", "b", "c"].iter().all(|driver| ended.sources_of(driver).is_empty()), "{:?}", ended.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_only_a_driver_has_is_unpacked_there() {
    let (cluster, documents) = (Cluster::of(&["a", "b"]).await, documents("number"));
    let mut archive = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    archive.write_all(format!("{}\n", documents.join("\n")).as_bytes()).unwrap();
    cluster.put("a", "d.json.gz", &archive.finish().unwrap());
    let ended = cluster.race("unpacked", "d.json.gz").await;
    ended.has_sent(&documents);
    assert_eq!(cluster.files("coordinator"), []);
    assert_eq!(ended.sources_of("b"), ["a"], "{:?}", ended.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_several_drivers_have_a_corpus_the_coordinator_sends_nothing_of_it() {
    let (cluster, documents) = (Cluster::of(&["a", "b", "c"]).await, documents("number"));
    for host in ["a", "b"] {
        cluster.put_documents(host, &documents);
    }
    let ended = cluster.race("spread", "d.json").await;
    ended.has_sent(&documents);
    let sources = ended.sources_of("c");
    assert!(!sources.is_empty() && sources.iter().all(|host| host == "a" || host == "b"), "{:?}", ended.told);
    assert_eq!(cluster.files("coordinator"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_with_another_file_of_the_same_name_and_length_sends_what_the_others_do() {
    let (cluster, documents) = (Cluster::of(&["a", "b"]).await, documents("number"));
    cluster.put_documents("coordinator", &documents);
    cluster.put_documents("a", &documents);
    cluster.put_documents("b", &self::documents("nombre"));
    let ended = cluster.race("other", "d.json").await;
    ended.has_sent(&documents);
    assert!(!ended.sources_of("b").is_empty(), "{:?}", ended.told);
    let told = |(host, message): &(String, String)| {
        host == "b" && message.starts_with("its d.json of corpus places (2280000 bytes) is another one than that of a")
    };
    assert!(ended.told.iter().any(told), "{:?}", ended.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_earlier_races_is_a_source_too() {
    // Several parts that can be checked alone, each of 1 MiB.
    let (cluster, documents) = (Cluster::of(&["a", "b"]).await, documents("number"));
    cluster.put_documents("coordinator", &documents);
    cluster.race("first", "d.json").await.has_sent(&documents);
    let [(name, _)] = &cluster.files("a")[..] else { panic!() };
    let (begin, length) = (name.rsplit_once('.').unwrap().0.to_owned(), DOCUMENTS * LINE);
    // Both have had other parts before: one of them everything.
    let text = format!("{}\n", documents.join("\n"));
    for driver in ["a", "b"] {
        std::fs::remove_dir_all(cluster.corpus(driver)).unwrap();
    }
    cluster.put("a", &format!("{begin}.0-{length}"), text.as_bytes());
    cluster.put("b", &format!("{begin}.7-{}", 1 << 20), &text.as_bytes()[7..1 << 20]);
    // The name is not believed: these bytes are wrong, and come from elsewhere.
    cluster.put("b", &format!("{begin}.0-{}", length - 1), &vec![b'x'; length as usize - 1]);
    let ended = cluster.race("second", "d.json").await;
    ended.has_sent(&documents);
    let known = |host: &String| ["a", "b", "coordinator", "this host"].contains(&host.as_str());
    assert!(ended.sources_of("a").is_empty(), "it has what it reads and more: {:?}", ended.told);
    let sources = ended.sources_of("b");
    assert!(!sources.is_empty() && sources.iter().all(known), "{:?}", ended.told);
    cluster.nothing_is_offered(&documents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corpus_that_nobody_has_is_named_with_the_place_to_put_it() {
    let cluster = Cluster::of(&["a"]).await;
    let plan = shipping("d.json");
    let owner = Arc::clone(cluster.coordinator.host.coordinator().unwrap());
    let race = owner.race(&plan, &["a"]).await.unwrap();
    let verdict = watch(&*owner, &race, &mut View::quiet()).await.unwrap();
    let cause = &verdict.errors[0].cause;
    let place = cluster.corpus("coordinator").join("d.json");
    assert!(cause.contains(&format!("--offline downloads nothing; put it at {}", place.display())), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_that_says_who_ships_what_does_not_outlive_a_race_that_cannot_begin() {
    let (cluster, documents) = (Cluster::of(&["a"]).await, documents("number"));
    cluster.put_documents("a", &documents);
    let directory = cluster.coordinator.directory.path();
    let archive = Archive::new(directory.join("races"));
    let race: RaceId = "taken".parse().unwrap();
    std::fs::create_dir_all(archive.directory(&race)).unwrap();
    // Somebody else is just about to run a race of this id.
    let _lock = archive.lock(&race).unwrap();
    let owner = Arc::clone(cluster.coordinator.host.coordinator().unwrap());
    let request = RaceRequest::new(race.clone(), NO_BUNDLE, ["a"]);
    owner.start(request, serde_json::to_string(&shipping("d.json")).unwrap()).await.unwrap();
    let verdict = watch(&*owner, &race, &mut View::quiet()).await.unwrap();
    let cause = archive.lock(&race).unwrap_err().to_string();
    assert_eq!(verdict.errors[0].cause, cause);
    owner.settled().await;
    assert_eq!(std::fs::read_dir(directory.join("plans")).unwrap().count(), 0);
    cluster.nothing_is_offered(&documents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_offers_parts_of_the_content_that_it_is_asked_for_and_of_no_other() {
    const LIMIT: Duration = Duration::from_secs(10);
    let cluster = Cluster::of(&["a"]).await;
    let (here, a) = (cluster.coordinator.host.host(), cluster.member("a").host.host());
    let plan = serde_json::to_vec(&shipping("d.json")).unwrap();
    let plan = cluster.coordinator.host.roles().content.keep(plan).await.unwrap();
    let (content, other) = (ContentHash::from_bytes([7; 32]), ContentHash::from_bytes([8; 32]));
    let hash = "07".repeat(8);
    // The last three are of another content, not as long as their name says, and of another file.
    for name in [
        &format!("d.json.{hash}.5-9"),
        &format!("d.json.{hash}.0-4"),
        &format!("d.json.{}.0-4", "08".repeat(8)),
        &format!("d.json.{hash}.0-5"),
        &format!("e.json.{hash}.0-4"),
    ] {
        cluster.put("a", name, b"some");
    }
    let peer = here.peer(a.id().unwrap()).unwrap();
    let names = |file: &str| ("places".to_owned(), file.to_owned());
    let race: RaceId = "parts".parse().unwrap();
    let files = vec![(names("e.json"), content), (names("../d.json"), content), (names("d.json"), content)];
    let request = OfferParts { race: race.clone(), plan, files };
    assert_eq!(peer.call(&request, LIMIT).await.unwrap().unwrap(), [(2, 0..4), (2, 5..9)]);
    assert!(a.shelf().open_range(content, 6..9).await.is_ok());
    assert!(a.shelf().open_range(content, 3..6).await.is_err());
    assert!(a.shelf().open_range(other, 0..4).await.is_err());
    assert!(a.shelf().manifest(plan).is_err(), "it has looked at the plan, and keeps it not");

    // With another race, or when they are withdrawn, they are offered no longer.
    let next = OfferParts { race: "next".parse().unwrap(), files: Vec::new(), ..request };
    assert_eq!(peer.call(&next, LIMIT).await.unwrap().unwrap(), []);
    assert!(a.shelf().open_range(content, 6..9).await.is_err());
    let again = OfferParts { files: vec![(names("d.json"), other)], ..next };
    assert_eq!(peer.call(&again, LIMIT).await.unwrap().unwrap(), [(0, 0..4)]);
    peer.call(&WithdrawCorpora { race }, LIMIT).await.unwrap();
    assert!(a.shelf().open_range(other, 0..4).await.is_ok(), "it was another race");
    peer.call(&WithdrawCorpora { race: again.race }, LIMIT).await.unwrap();
    assert!(a.shelf().open_range(other, 0..4).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_coordinator_decides_what_a_host_offers() {
    let cluster = Cluster::of(&["a", "b"]).await;
    let (a, b) = (cluster.member("a").host.host(), cluster.member("b").host.host());
    let address: SocketAddr = b.address();
    let peer = a.connect(b.id().unwrap(), address).await.unwrap();
    let answer = peer.call(&WithdrawCorpora { race: "any".parse().unwrap() }, Duration::from_secs(10)).await;
    let Err(CallError::Rejected { rejection: Rejection::CoordinatorOnly(name), .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(name, "corpora/withdraw");
}
