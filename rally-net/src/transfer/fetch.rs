//! Fetching a content into a file.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rally_core::ContentHash;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::blocking::blocking;
use super::error::{FetchError, SourceFailure, SourceFault};
use super::file_name::FileName;
use super::part::{Part, Place};
use super::run_reader::{Failure, Patience, RunReader, ask_manifest};
use super::share::{SOURCES_AT_ONCE, Share};
use super::source::{Source, SourceError};
use super::store::Store;

/// If the sources that were asked first have not shown a part of the content after this time, another is asked, too.
const ANOTHER_SOURCE_AFTER: Duration = Duration::from_millis(500);

/// What to fetch, and where to put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The content.
    pub content: ContentHash,
    /// An existing directory; nothing outside is ever written.
    pub directory: PathBuf,
    /// The name that the file gets in the directory.
    pub name: FileName,
    /// The bytes to fetch; the file then holds these only. By default all.
    ///
    /// Whole groups are transferred (up to 4 MiB more at either end), because only a whole group can be verified. For
    /// the same reason it cannot be told whether an existing file holds the range: it is always replaced.
    pub range: Option<Range<u64>>,
}

/// How far a fetch is, in bytes of the file that it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// The length of the file; 0 until it is known.
    pub total: u64,
    /// How many are verified and written, by this fetch or an earlier one.
    pub done: u64,
    /// How many of them were found on disk.
    pub resumed: u64,
}

/// A content is complete on disk.
#[derive(Debug)]
pub struct Fetched {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// How many of its bytes were found on disk.
    pub resumed: u64,
    /// Whom the others came from, in the order of the sources; those that delivered nothing are left out.
    pub served: Vec<Served>,
    /// The sources that were given up on the way.
    pub failures: Vec<SourceFailure>,
}

/// What one source delivered of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The name of the source.
    pub name: String,
    /// How many bytes of the file are from it.
    pub bytes: u64,
}

/// A tree that one group has proven.
struct Proof {
    store: Arc<Store>,
    /// The last wanted group, unless it is on disk already.
    group: Option<(usize, Vec<u8>)>,
}

/// The sources that may still deliver, and which of them has proven the tree.
struct Alive<'a> {
    sources: Vec<&'a dyn Source>,
    proven_by: usize,
}

/// Fetches a content from several sources at once into a file. At least one of them must have all of it.
///
/// A file that has the content already is left alone, without asking any source. Otherwise the bytes are collected in a
/// hidden file beside the target, each group verified before it is written, and only the complete file takes the name
/// of the target. An unfinished file of an earlier fetch of the same content is verified and completed. If another
/// fetch into the same file is under way, in this process or another, its end is awaited for as long as it writes.
///
/// Up to 8 sources are read at once, each into two buffers of at most 4 MiB; the others stand by. Faster sources take
/// over what slower ones have not begun. A source is given up when it sends wrong bytes, when it takes more than 10 s
/// to answer or for 128 KiB (30 s for its manifest), or when it fails four times in a row; it is then named in the
/// result.
///
/// `progress` is updated once for each group; verifying what is on disk at the beginning shows no progress.
///
/// # Errors
///
/// The target or its directory cannot be written, or every source failed.
///
/// # Cancel safety
///
/// When dropped, what has arrived stays on disk, and the next fetch of the same content goes on from there.
pub async fn fetch(
    request: &Fetch,
    sources: &[Arc<dyn Source>],
    progress: &watch::Sender<FetchProgress>,
) -> Result<Fetched, FetchError> {
    if let Some(range) = request.range.as_ref().filter(|range| range.is_empty()) {
        return Err(FetchError::EmptyRange { range: range.clone() });
    }
    let place = Place::open(request).await?;
    if let Some(found) = already_there(request, &place, progress).await? {
        return Ok(found);
    }
    let (part, waited) = place.claim().await?;
    if waited && let Some(found) = already_there(request, &place, progress).await? {
        part.discard().await?;
        return Ok(found);
    }

    let mut failures = Vec::new();
    let (Proof { store, group }, alive) = prove(request, sources, &part, &mut failures).await?;
    let length = store.wanted.end - store.wanted.start;
    let (mut stored, resumed) = store.resume().await?;
    progress.send_replace(FetchProgress { total: length, done: resumed, resumed });
    let mut served = vec![0; alive.sources.len()];
    if let Some((group, bytes)) = group {
        let write = Arc::clone(&store);
        let written = blocking(move || write.write(group, &bytes)).await;
        written.map_err(|source| store.part.error("write", source))?;
        stored[group] = true;
        served[alive.proven_by] = store.kept_length(group);
        progress.send_modify(|progress| progress.done += store.kept_length(group));
    }
    let readable = alive.sources.iter().map(|source| store.tree.readable(source.part())).collect();
    let share = Share::new(request.content, &store, stored, progress, readable, served);
    share.run(&alive.sources, &mut failures).await?;
    let served = share.served().into_iter().zip(&alive.sources).filter(|(bytes, _)| *bytes > 0);
    let served = served.map(|(bytes, source)| Served { name: source.name().to_owned(), bytes }).collect();
    part.finish(length).await?;

    let path = place.target_path();
    debug!(path = %path.display(), content = %request.content, length, resumed, "fetched");
    Ok(Fetched { path, length, resumed, served, failures })
}

/// Success, if the target has the content; it can be told only if all of it is wanted.
async fn already_there(
    request: &Fetch,
    place: &Place,
    progress: &watch::Sender<FetchProgress>,
) -> Result<Option<Fetched>, FetchError> {
    if request.range.is_some() {
        return Ok(None);
    }
    let Some(length) = place.target_length(request.content).await? else { return Ok(None) };
    progress.send_replace(FetchProgress { total: length, done: length, resumed: length });
    let (served, failures) = (Vec::new(), Vec::new());
    Ok(Some(Fetched { path: place.target_path(), length, resumed: length, served, failures }))
}

/// Gets a tree, and proves it by the last wanted group; also returns the sources that have not failed, first those that have
/// all of the content.
///
/// A tree is only ever held against bytes of the source that it came from, so that no honest source is blamed for
/// another's wrong tree.
async fn prove<'a>(
    request: &Fetch,
    sources: &'a [Arc<dyn Source>],
    part: &Part,
    failures: &mut Vec<SourceFailure>,
) -> Result<(Proof, Alive<'a>), FetchError> {
    let (parts, wholes): (Vec<_>, Vec<_>) =
        sources.iter().map(AsRef::as_ref).partition::<Vec<&dyn Source>, _>(|source| source.part().is_some());
    let mut waiting = wholes.clone().into_iter();
    let mut alive = [wholes, parts].concat();
    let mut attempts = FuturesUnordered::new();
    loop {
        if attempts.len() < SOURCES_AT_ONCE {
            attempts.extend(waiting.next().map(|source| prove_by(request, source, part)));
        }
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some((source, Ok(proof))) => {
                    let proven_by = alive.iter().position(|other| std::ptr::addr_eq(*other, source));
                    let proven_by = proven_by.expect("a source that has not failed is alive");
                    return Ok((proof, Alive { sources: alive, proven_by }));
                }
                Some((source, Err(Failure::Source(fault)))) => {
                    give_up(source, fault, failures);
                    alive.retain(|other| !std::ptr::addr_eq(*other, source));
                }
                Some((_, Err(Failure::Storage(error)))) => return Err(error),
                None => return Err(FetchError::NoSource { content: request.content, failures: std::mem::take(failures) }),
            },
            () = sleep(ANOTHER_SOURCE_AFTER) => {}
        }
    }
}

async fn prove_by<'a>(
    request: &Fetch,
    source: &'a dyn Source,
    part: &Part,
) -> (&'a dyn Source, Result<Proof, Failure>) {
    let mut patience = Patience::default();
    loop {
        match prove_once(request, source, part).await {
            Err(Failure::Source(fault)) => {
                if let Err(fault) = patience.bear(fault).await {
                    return (source, Err(Failure::Source(fault)));
                }
            }
            result => return (source, result),
        }
    }
}

async fn prove_once(request: &Fetch, source: &dyn Source, part: &Part) -> Result<Proof, Failure> {
    let content = request.content;
    let tree = ask_manifest(source, content).await?.check(content).map_err(SourceFault::from)?;
    let length = tree.length();
    let wanted = request.range.clone().unwrap_or(0..length);
    if wanted.end > length {
        return Err(SourceFault::from(SourceError::OutOfRange { content, range: wanted, length }).into());
    }
    let store = Arc::new(Store { tree, part: part.clone(), wanted });
    let Some(group) = store.groups().last() else { return Ok(Proof { store, group: None }) };
    let look = Arc::clone(&store);
    if blocking(move || look.holds(group)).await.map_err(|source| part.error("read", source))? {
        return Ok(Proof { store, group: None });
    }
    let range = store.tree.bytes_of(group..group + 1);
    let mut reader = RunReader::open(source, content, range.clone()).await?;
    let mut bytes = Vec::new();
    reader.fill(&mut bytes, (range.end - range.start) as usize).await?;
    let check = Arc::clone(&store);
    let checked = blocking(move || Ok(check.tree.matches(group, &bytes).then_some(bytes))).await;
    match checked.map_err(|source| part.error("verify", source))? {
        Some(bytes) => Ok(Proof { store, group: Some((group, bytes)) }),
        None => Err(SourceFault::WrongBytes { range }.into()),
    }
}

/// Notes that a source will not be asked again.
pub(super) fn give_up(source: &dyn Source, fault: SourceFault, failures: &mut Vec<SourceFailure>) {
    let failure = SourceFailure { name: source.name().to_owned(), fault };
    warn!(source = %failure.name, fault = %failure.fault, "gave up a source");
    failures.push(failure);
}
