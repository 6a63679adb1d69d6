//! Fetches from sources that break, stall and lie.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blake3::hazmat::HasherExt;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::manifest::SMALLEST_GROUP as GROUP;
use super::testing::{Fake, Then, bytes, hash, manifest};
use super::*;

/// A directory to fetch a content into, and how far that is.
struct Receiver {
    directory: TempDir,
    request: Fetch,
    progress: watch::Sender<FetchProgress>,
}

impl Receiver {
    fn of(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let request = Fetch {
            content: hash(content),
            directory: directory.path().to_owned(),
            name: "documents.json".parse().unwrap(),
            range: None,
        };
        Self { directory, request, progress: watch::Sender::new(FetchProgress::default()) }
    }

    fn range(mut self, range: Range<u64>) -> Self {
        self.request.range = Some(range);
        self
    }

    async fn fetch(&self, sources: &[Arc<Fake>]) -> Result<Fetched, FetchError> {
        let sources: Vec<Arc<dyn Source>> = sources.iter().map(|source| Arc::clone(source) as _).collect();
        fetch(&self.request, &sources, &self.progress).await
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("documents.json")
    }

    fn part(&self) -> PathBuf {
        self.directory.path().join(format!(".documents.json.{}.part", &self.request.content.to_string()[..16]))
    }

    /// The target has these bytes, and nothing is left beside it.
    #[track_caller]
    fn holds(&self, expected: &[u8]) {
        assert!(fs::read(self.target()).unwrap() == expected, "the file differs");
        assert_eq!(names(self.directory.path()), ["documents.json"]);
        let FetchProgress { total, done, .. } = *self.progress.borrow();
        assert_eq!((total, done), (expected.len() as u64, expected.len() as u64));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn named(failures: &[SourceFailure]) -> Vec<&str> {
    failures.iter().map(|failure| failure.name.as_str()).collect()
}

/// The only source's fault.
#[track_caller]
fn only_fault(result: Result<Fetched, FetchError>) -> SourceFault {
    match result {
        Err(FetchError::NoSource { mut failures, .. }) if failures.len() == 1 => failures.remove(0).fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_arrives_whole_whatever_its_length() {
    for length in [0, 1, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP, 3 * GROUP + 1] {
        let content = bytes(length);
        let receiver = Receiver::of(&content);
        let source = Arc::new(Fake::new("a", &content));
        let fetched = receiver.fetch(&[Arc::clone(&source)]).await.unwrap();
        assert_eq!((fetched.path, fetched.length, fetched.resumed), (receiver.target(), length, 0));
        receiver.holds(&content);
        assert_eq!(source.asked(), length, "nothing is sent twice");
    }
}

#[tokio::test]
async fn a_range_arrives_alone() {
    let content = bytes(4 * GROUP + 9);
    let length = content.len() as u64;
    let ranges = [0..1, 0..GROUP, GROUP - 1..GROUP + 1, GROUP..2 * GROUP, 5..3 * GROUP, length - 1..length, 0..length];
    for range in ranges {
        let receiver = Receiver::of(&content).range(range.clone());
        receiver.fetch(&[Arc::new(Fake::new("a", &content))]).await.unwrap();
        receiver.holds(&content[range.start as usize..range.end as usize]);
    }
}

#[tokio::test]
async fn a_range_that_is_not_there_is_refused() {
    let content = bytes(9);
    for range in [3..3, Range { start: 4, end: 3 }] {
        let result = Receiver::of(&content).range(range).fetch(&[Arc::new(Fake::new("a", &content))]).await;
        assert!(matches!(result, Err(FetchError::EmptyRange { .. })));
    }
    let fault = only_fault(Receiver::of(&content).range(3..10).fetch(&[Arc::new(Fake::new("a", &content))]).await);
    assert!(matches!(fault, SourceFault::Refused(SourceError::OutOfRange { length: 9, .. })));
}

#[tokio::test]
async fn a_shelf_is_a_source() {
    let content = bytes(9 * GROUP + 1);
    let receiver = Receiver::of(&content);
    let offered = tempfile::NamedTempFile::new().unwrap();
    fs::write(&offered, &content).unwrap();
    let shelf = Arc::new(Shelf::default());
    assert_eq!(shelf.add(offered.path()).await.unwrap(), receiver.request.content);
    fetch(&receiver.request, &[shelf.clone(), shelf], &receiver.progress).await.unwrap();
    receiver.holds(&content);
}

#[tokio::test]
async fn several_sources_share_the_work() {
    let content = bytes(64 * GROUP);
    let receiver = Receiver::of(&content);
    let sources = ["a", "b", "c"].map(|name| Arc::new(Fake::new(name, &content)));
    let fetched = receiver.fetch(&sources).await.unwrap();
    receiver.holds(&content);
    for source in &sources {
        assert!(source.asked() > 10 * GROUP, "a source was hardly used");
    }
    // Each byte is counted once, also where two have sent the same.
    let served: Vec<_> = fetched.served.iter().map(|served| served.name.as_str()).collect();
    assert_eq!(served, ["a", "b", "c"]);
    assert_eq!(fetched.served.iter().map(|served| served.bytes).sum::<u64>(), 64 * GROUP);
}

#[tokio::test(start_paused = true)]
async fn a_source_with_a_part_is_asked_for_the_whole_groups_of_it_alone() {
    let content = bytes(16 * GROUP);
    for range in [None, Some(3 * GROUP + 9..13 * GROUP)] {
        let receiver = match range.clone() {
            Some(range) => Receiver::of(&content).range(range),
            None => Receiver::of(&content),
        };
        let whole = Arc::new(Fake::new("whole", &content).slow(Duration::from_millis(1)));
        let part = Arc::new(Fake::new("part", &content));
        let partial = PartialSource::new(Arc::clone(&part) as _, 4 * GROUP + 1..9 * GROUP + 5);
        let sources: [Arc<dyn Source>; 2] = [Arc::new(partial), whole];
        let fetched = fetch(&receiver.request, &sources, &receiver.progress).await.unwrap();
        receiver.holds(&content[range.map_or(0..content.len(), |range| range.start as usize..range.end as usize)]);
        let reads = part.reads.lock().unwrap().clone();
        assert!(reads.iter().all(|read| 5 * GROUP <= read.start && read.end <= 9 * GROUP), "{reads:?}");
        let [_, Served { name, bytes }] = &fetched.served[..] else { panic!("{fetched:?}") };
        assert_eq!((name.as_str(), *bytes), ("part", 4 * GROUP), "all of what it could deliver: {fetched:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_only_parts_are_left_that_do_not_suffice_the_fetch_ends() {
    let content = bytes(6 * GROUP);
    let receiver = Receiver::of(&content);
    // It proves the tree, and breaks for good.
    let faults = std::iter::once((u64::MAX, Then::End)).chain(std::iter::repeat_n((0, Then::Break), 10));
    let whole = Arc::new(Fake::new("whole", &content).faulty(faults));
    let part = Arc::new(Fake::new("part", &content));
    let sources: [Arc<dyn Source>; 2] = [whole, Arc::new(PartialSource::new(part, 0..3 * GROUP))];
    let error = fetch(&receiver.request, &sources, &receiver.progress).await.unwrap_err().to_string();
    assert!(error.contains("whole: reading broke off"), "{error}");
    assert!(receiver.progress.borrow().done >= 4 * GROUP, "what the other had is kept");

    let alone: [Arc<dyn Source>; 1] = [Arc::clone(&sources[1])];
    let error = fetch(&receiver.request, &alone, &receiver.progress).await.unwrap_err().to_string();
    assert!(error.ends_with(": there was none to ask"), "{error}");
}

#[tokio::test]
async fn no_source_at_all_is_an_error() {
    let result = Receiver::of(b"x").fetch(&[]).await;
    assert!(result.unwrap_err().to_string().ends_with(": there was none to ask"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_is_asked_again_and_a_group_is_not_lost() {
    let content = bytes(5 * GROUP);
    for then in [Then::Break, Then::End] {
        let receiver = Receiver::of(&content);
        let faults = [(7, then), (0, then), (0, then), (u64::MAX, then), (GROUP + 1, then), (3, then)];
        let fetched = receiver.fetch(&[Arc::new(Fake::new("a", &content).faulty(faults))]).await.unwrap();
        receiver.holds(&content);
        assert!(fetched.failures.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_breaking_is_given_up_and_the_next_fetch_goes_on() {
    let content = bytes(6 * GROUP);
    for then in [Then::Break, Then::End] {
        let receiver = Receiver::of(&content);
        let faults = [(u64::MAX, then), (2 * GROUP + 5, then)].into_iter().chain([(5, then); 9]);
        let fault = only_fault(receiver.fetch(&[Arc::new(Fake::new("a", &content).faulty(faults))]).await);
        assert!(fault.may_pass(), "{fault}");
        assert!(receiver.part().exists() && !receiver.target().exists());

        let source = Arc::new(Fake::new("b", &content));
        let fetched = receiver.fetch(&[Arc::clone(&source)]).await.unwrap();
        assert_eq!((fetched.resumed, source.asked()), (3 * GROUP, 3 * GROUP));
        receiver.holds(&content);
    }
}

#[tokio::test]
async fn what_a_dropped_fetch_left_is_verified_and_completed() {
    let content = bytes(6 * GROUP + 5);
    let receiver = Receiver::of(&content);
    let mut left = content.clone();
    left.extend_from_slice(b"too long");
    left[GROUP as usize] ^= 1;
    fs::write(receiver.part(), &left).unwrap();
    let source = Arc::new(Fake::new("a", &content));
    let fetched = receiver.fetch(&[Arc::clone(&source)]).await.unwrap();
    assert_eq!(*source.reads.lock().unwrap(), vec![GROUP..2 * GROUP]);
    assert_eq!(fetched.resumed, 5 * GROUP + 5);
    receiver.holds(&content);
}

#[tokio::test]
async fn a_range_goes_on_with_the_groups_that_it_has_whole() {
    let content = bytes(6 * GROUP);
    let range = GROUP - 5..5 * GROUP + 5;
    let receiver = Receiver::of(&content).range(range.clone());
    let wanted = &content[range.start as usize..range.end as usize];
    let part = receiver.part().with_extension(format!("{}-{}.part", range.start, range.end));
    fs::write(part, wanted).unwrap();
    let source = Arc::new(Fake::new("a", &content));
    let fetched = receiver.fetch(&[Arc::clone(&source)]).await.unwrap();
    assert_eq!((fetched.resumed, source.asked()), (4 * GROUP, 2 * GROUP));
    receiver.holds(wanted);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_dropped_midway_frees_the_file_for_the_next() {
    let content = bytes(8 * GROUP);
    let receiver = Receiver::of(&content);
    let stalling = Arc::new(Fake::new("a", &content).faulty([(GROUP, Then::End), (3 * GROUP, Then::Stall)]));
    timeout(Duration::from_secs(5), receiver.fetch(&[stalling])).await.unwrap_err();
    assert!(!receiver.target().exists());
    let source = Arc::new(Fake::new("b", &content));
    let fetched = receiver.fetch(&[source]).await.unwrap();
    assert_eq!(fetched.resumed, 4 * GROUP);
    receiver.holds(&content);
}

#[tokio::test]
async fn a_target_with_the_content_is_left_alone_and_any_other_is_replaced_at_the_end() {
    let content = bytes(2 * GROUP);
    let receiver = Receiver::of(&content);
    fs::write(receiver.target(), &content).unwrap();
    let fetched = receiver.fetch(&[]).await.unwrap();
    assert_eq!((fetched.length, fetched.resumed), (2 * GROUP, 2 * GROUP));
    receiver.holds(&content);

    fs::write(receiver.target(), b"precious").unwrap();
    let liar = Arc::new(Fake::new("a", &content).lying_at(3));
    receiver.fetch(&[liar]).await.unwrap_err();
    assert_eq!(fs::read(receiver.target()).unwrap(), b"precious");
    receiver.fetch(&[Arc::new(Fake::new("b", &content))]).await.unwrap();
    receiver.holds(&content);
}

#[tokio::test(start_paused = true)]
async fn a_source_with_wrong_bytes_is_named_and_its_group_comes_from_another() {
    let content = bytes(40 * GROUP);
    // Wrong in the first group, in the middle, and in the last, by which a manifest is proven.
    for position in [0, 20 * GROUP + 7, 40 * GROUP - 1] {
        let receiver = Receiver::of(&content);
        let liar = Arc::new(Fake::new("liar", &content).lying_at(position));
        // The honest one cannot finish before the liar has sent its group.
        let honest = Arc::new(Fake::new("honest", &content).slow(Duration::from_millis(1)));
        let fetched = receiver.fetch(&[liar, honest]).await.unwrap();
        receiver.holds(&content);
        assert_eq!(named(&fetched.failures), ["liar"]);
        let group = position / GROUP * GROUP;
        let fault = &fetched.failures[0].fault;
        assert!(matches!(fault, SourceFault::WrongBytes { range } if *range == (group..group + GROUP)), "{fault}");
    }
}

#[tokio::test]
async fn a_wrong_manifest_is_blamed_on_its_source_only() {
    let content = bytes(4 * GROUP);
    let groups = |length: u64| manifest(&content[..length as usize]);
    // The first two do not make up the content; the others do, with a length or a shape that is not its own.
    let (left, right) = content.split_at(2 * GROUP as usize);
    let left = blake3::Hasher::new().update(left).finalize_non_root();
    let right = blake3::Hasher::new().set_input_offset(2 * GROUP).update(right).finalize_non_root();
    let parts = postcard::to_stdvec(&groups(4 * GROUP)).unwrap();
    let mut shorter = postcard::to_stdvec(&(4 * GROUP - 1)).unwrap();
    shorter.extend_from_slice(&parts[postcard::to_stdvec(&(4 * GROUP)).unwrap().len()..]);
    let wrong = [
        groups(2 * GROUP),
        groups(0),
        Manifest::new(2 * GROUP, [left, right]).unwrap(),
        Manifest::new(GROUP, []).unwrap(),
        postcard::from_bytes(&shorter).unwrap(),
    ];
    for manifest in wrong {
        let receiver = Receiver::of(&content);
        let mut liar = Fake::new("liar", &content);
        liar.manifest = Ok(manifest);
        let fetched = receiver.fetch(&[Arc::new(liar), Arc::new(Fake::new("honest", &content))]).await.unwrap();
        receiver.holds(&content);
        assert_eq!(named(&fetched.failures), ["liar"]);
    }
}

#[tokio::test]
async fn a_source_that_never_stops_sending_is_read_no_further_than_asked() {
    let content = bytes(3 * GROUP + 1);
    let receiver = Receiver::of(&content);
    let mut source = Fake::new("a", &content);
    source.babbles = true;
    receiver.fetch(&[Arc::new(source)]).await.unwrap();
    receiver.holds(&content);

    let babbler = Fake::new("a", &content).faulty([(0, Then::Babble)]);
    let fault = only_fault(Receiver::of(&content).fetch(&[Arc::new(babbler)]).await);
    assert!(matches!(fault, SourceFault::WrongBytes { .. }), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refuses_is_not_asked_again() {
    let content = bytes(2 * GROUP);
    let receiver = Receiver::of(&content);
    let mut refusing = Fake::new("a", &content);
    refusing.manifest = Err(SourceError::NotOffered { content: receiver.request.content });
    let started = Instant::now();
    let error = receiver.fetch(&[Arc::new(refusing)]).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    let hash = receiver.request.content;
    let expected = format!("no source could deliver content {hash}: a: does not offer content {hash}");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stalls_is_given_up_after_ten_seconds() {
    let content = bytes(3 * GROUP);
    for after in [0, 5, GROUP, GROUP + 5] {
        let receiver = Receiver::of(&content);
        let source = Arc::new(Fake::new("a", &content).faulty([(u64::MAX, Then::End), (after, Then::Stall)]));
        let started = Instant::now();
        let fault = only_fault(receiver.fetch(&[source]).await);
        assert!(matches!(fault, SourceFault::Stalled { .. }), "{fault}");
        assert!((10..=11).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_trickles_is_given_up() {
    let content = bytes(2 * GROUP);
    let source = Arc::new(Fake::new("a", &content).slow(Duration::from_secs(1)));
    let started = Instant::now();
    let fault = only_fault(Receiver::of(&content).fetch(&[source]).await);
    assert!(matches!(fault, SourceFault::Stalled { .. }), "{fault}");
    assert!(started.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn slow_and_stalling_sources_do_not_hold_up_the_others() {
    let content = bytes(16 * GROUP);
    let receiver = Receiver::of(&content);
    let stalling = Arc::new(Fake::new("stalling", &content).faulty([(9, Then::Stall); 9]));
    let slow = Arc::new(Fake::new("slow", &content).slow(Duration::from_millis(70)));
    let fast = Arc::new(Fake::new("fast", &content));
    let started = Instant::now();
    let fetched = receiver.fetch(&[stalling, slow, fast]).await.unwrap();
    receiver.holds(&content);
    assert!(fetched.failures.is_empty());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_only_a_source_that_stands_by_can_read_is_read_from_it() {
    let content = bytes(4 * GROUP);
    let receiver = Receiver::of(&content);
    // It proves the manifest and then breaks for ever.
    let faults = [(u64::MAX, Then::End)].into_iter().chain([(0, Then::Break); 9]);
    let whole: Arc<dyn Source> = Arc::new(Fake::new("whole", &content).faulty(faults));
    let part = |name: &str, range| Arc::new(PartialSource::new(Arc::new(Fake::new(name, &content)), range));
    let mut sources = vec![whole];
    sources.extend((0..9).map(|_| part("beginning", 0..GROUP) as Arc<dyn Source>));
    sources.push(part("rest", GROUP..4 * GROUP));
    let fetched = fetch(&receiver.request, &sources, &receiver.progress);
    let fetched = timeout(Duration::from_secs(60), fetched).await.expect("the fetch ends").unwrap();
    receiver.holds(&content);
    assert!(fetched.served.contains(&Served { name: "rest".to_owned(), bytes: 2 * GROUP }), "{:?}", fetched.served);
}

#[tokio::test(start_paused = true)]
async fn concurrent_fetches_into_one_file_do_not_disturb_each_other() {
    let content = bytes(8 * GROUP);
    let receiver = Receiver::of(&content);
    let sources = [Arc::new(Fake::new("a", &content).slow(Duration::from_millis(1)))];
    let results =
        futures_util::future::join_all((0..4).map(|_| async { receiver.fetch(&sources).await.map(drop) })).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    receiver.holds(&content);
    assert_eq!(sources[0].asked(), 8 * GROUP, "the others waited for the first");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_another_process_holds_without_progress_is_an_error() {
    let content = bytes(GROUP);
    let receiver = Receiver::of(&content);
    let held = fs::File::create(receiver.part()).unwrap();
    held.lock().unwrap();
    let result = receiver.fetch(&[Arc::new(Fake::new("a", &content))]).await;
    assert!(matches!(result, Err(FetchError::Busy { part }) if part == receiver.part()));
    drop(held);
    receiver.fetch(&[Arc::new(Fake::new("a", &content))]).await.unwrap();
    receiver.holds(&content);
}

#[tokio::test]
async fn links_lead_nowhere_outside() {
    let content = bytes(GROUP + 1);
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&outside, b"precious").unwrap();
    let sources = [Arc::new(Fake::new("a", &content))];

    let receiver = Receiver::of(&content);
    symlink(outside.path(), receiver.target()).unwrap();
    receiver.fetch(&sources).await.unwrap();
    receiver.holds(&content);
    assert!(receiver.target().symlink_metadata().unwrap().is_file(), "the link is replaced");

    let receiver = Receiver::of(&content);
    symlink(outside.path(), receiver.part()).unwrap();
    let result = receiver.fetch(&sources).await;
    assert!(matches!(result, Err(FetchError::NotAFile { path }) if path == receiver.part()));

    let receiver = Receiver::of(&content);
    let inside = tempfile::NamedTempFile::new_in(receiver.directory.path()).unwrap();
    fs::hard_link(inside.path(), receiver.part()).unwrap();
    let result = receiver.fetch(&sources).await;
    assert!(matches!(result, Err(FetchError::NotAFile { path }) if path == receiver.part()));
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert_eq!(fs::read(&inside).unwrap(), b"");
}

#[tokio::test]
async fn what_is_not_a_file_is_not_replaced() {
    let content = bytes(1);
    let receiver = Receiver::of(&content);
    fs::create_dir(receiver.target()).unwrap();
    let result = receiver.fetch(&[Arc::new(Fake::new("a", &content))]).await;
    assert!(matches!(result, Err(FetchError::NotAFile { path }) if path == receiver.target()));

    let mut receiver = Receiver::of(&content);
    receiver.request.directory.push("missing");
    let error = receiver.fetch(&[]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to open {}", receiver.request.directory.display()));
}

#[derive(Clone, Debug)]
struct Behaviour {
    faults: Vec<(u64, Then)>,
    lie: Option<u64>,
}

fn behaviour(length: u64) -> impl Strategy<Value = Behaviour> {
    let then = prop_oneof![Just(Then::End), Just(Then::Break), Just(Then::Stall), Just(Then::Babble)];
    let faults = prop::collection::vec((0..=length, then), 0..4);
    (faults, prop::option::of(0..length)).prop_map(|(faults, lie)| Behaviour { faults, lie })
}

fn any_case() -> impl Strategy<Value = (u64, Range<u64>, Vec<Behaviour>)> {
    (1..=6 * GROUP).prop_flat_map(|length| {
        let range = (0..length, 0..=length).prop_map(|(a, b)| a.min(b)..a.max(b).max(a.min(b) + 1));
        (Just(length), range, prop::collection::vec(behaviour(length), 0..4))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the other sources misbehave, one honest source among them is enough, and is never blamed.
    #[test]
    fn the_bytes_are_those_of_the_original((length, range, behaviours) in any_case(), whole in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let content = bytes(length);
            let mut receiver = Receiver::of(&content);
            if !whole {
                receiver = receiver.range(range.clone());
            }
            let mut sources: Vec<_> = behaviours
                .iter()
                .map(|Behaviour { faults, lie }| {
                    let fake = Fake::new("faulty", &content).faulty(faults.iter().copied());
                    Arc::new(match lie { Some(position) => fake.lying_at(*position), None => fake })
                })
                .collect();
            sources.push(Arc::new(Fake::new("honest", &content)));
            let fetched = receiver.fetch(&sources).await.unwrap();
            assert!(!named(&fetched.failures).contains(&"honest"));
            receiver.holds(if whole { &content } else { &content[range.start as usize..range.end as usize] });
        });
    }
}
