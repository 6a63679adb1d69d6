//! What a driver fetches from other hosts of a file of documents that it does not have: the bytes that its clients read.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rally_core::{ContentHash, ShippedFile};
use tracing::warn;

use super::place::{Place, length};
use super::progress::Progress;
use super::{CorpusError, DocumentFile, OffsetTable};
use crate::driver::ContentSource;

/// So many digits of the hash of a content are in the names of its slices.
const HASH_DIGITS: usize = 16;

/// Fetches the part of a file that has these lines, unless it is here from another race, or the whole file is.
pub(super) async fn fetch_slice(
    content: &Arc<dyn ContentSource>,
    place: &Place,
    shipped: &ShippedFile,
    lines: &Range<u64>,
    begin: impl FnOnce(u64) -> Progress,
) -> Result<DocumentFile, CorpusError> {
    let failed = |problem: String| CorpusError::Ship {
        corpus: place.corpus.clone(),
        document_file: place.name.clone(),
        problem,
    };
    let table = OffsetTable::new(shipped.offsets.iter().copied(), shipped.length)
        .ok_or_else(|| failed("the offsets that came with the race make no sense".to_owned()))?;
    // A file of the same name and length may be another one; this one was hashed.
    if let Some(path) = content.path(shipped.content).await {
        return Ok(DocumentFile { path, begins_at: 0, length: shipped.length, table });
    }
    let range = bytes_of(&table, lines, shipped.length);
    let holds =
        |bytes: &Range<u64>| bytes.start <= range.start && range.end <= bytes.end && bytes.end <= shipped.length;
    if let Some((bytes, path)) = slices_here(place, shipped.content)?.into_iter().find(|(bytes, _)| holds(bytes)) {
        return Ok(DocumentFile { path, begins_at: bytes.start, length: shipped.length, table });
    }
    let name = format!("{}{}.{}-{}", prefix(place), short(shipped.content), range.start, range.end);
    let path = place.directory.join(&name);
    if !range.is_empty() {
        let progress = Mutex::new(begin(range.end - range.start));
        let arrived = |bytes| progress.lock().unwrap_or_else(PoisonError::into_inner).at(bytes);
        let cannot_write = |source| CorpusError::Write { path: path.clone(), source };
        tokio::fs::create_dir_all(&place.directory).await.map_err(cannot_write)?;
        let fetched = content.fetch_into(shipped, range.clone(), &place.directory, &name, &arrived).await;
        let served = fetched.map_err(|error| failed(error.to_string()))?;
        progress.into_inner().unwrap_or_else(PoisonError::into_inner).came_from(&served);
    }
    Ok(DocumentFile { path, begins_at: range.start, length: shipped.length, table })
}

/// Which parts of a file are here from earlier races: their bytes, and where they are.
pub(super) fn slices_here(place: &Place, content: ContentHash) -> Result<Vec<(Range<u64>, PathBuf)>, CorpusError> {
    let hash = short(content);
    let mut slices = Vec::new();
    for (_, bytes, path) in all_slices(place)?.into_iter().filter(|(of, ..)| *of == hash) {
        if length(&path)? == Some(bytes.end - bytes.start) {
            slices.push((bytes, path));
        }
    }
    slices.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    Ok(slices)
}

/// Deletes parts of what a file was before. Those of another file of the race may be of the same name.
pub(super) fn delete_old_slices(place: &Place, shipped: &[ShippedFile]) -> Result<(), CorpusError> {
    let is_old = |hash: &str| shipped.iter().all(|it| short(it.content) != hash);
    for (_, _, path) in all_slices(place)?.into_iter().filter(|(hash, ..)| is_old(hash)) {
        if let Err(error) = fs::remove_file(&path) {
            warn!(path = %path.display(), %error, "a part of an older corpus cannot be deleted");
        }
    }
    Ok(())
}

/// All parts of a file that are here, by their names: the short hash of its content, the bytes, and where they are.
fn all_slices(place: &Place) -> Result<Vec<(String, Range<u64>, PathBuf)>, CorpusError> {
    let cannot_read = |source| CorpusError::Read { path: place.directory.clone(), source };
    let files = match fs::read_dir(&place.directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(error)),
    };
    let prefix = prefix(place);
    let mut slices = Vec::new();
    for file in files {
        let file = file.map_err(cannot_read)?;
        let name = file.file_name();
        let parts = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split_once('.'));
        let parts = parts.and_then(|(hash, bytes)| Some((hash, bytes.split_once('-')?)));
        let Some((hash, (Ok(start), Ok(end)))) =
            parts.map(|(hash, (start, end))| (hash, (start.parse::<u64>(), end.parse::<u64>())))
        else {
            continue;
        };
        let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hash && start < end {
            slices.push((hash.to_owned(), start..end, file.path()));
        }
    }
    Ok(slices)
}

/// What the name of a slice begins with.
fn prefix(place: &Place) -> String {
    format!("{}.", place.file().file_name().unwrap_or_default().to_string_lossy())
}

/// What the name of a slice says of the content, so that a slice that is there is the right one.
fn short(content: ContentHash) -> String {
    content.to_string()[..HASH_DIGITS].to_owned()
}

/// The bytes that hold these lines, and some more at either end.
fn bytes_of(table: &OffsetTable, lines: &Range<u64>, length: u64) -> Range<u64> {
    table.before(lines.start).byte..table.behind(lines.end).map_or(length, |behind| behind.byte)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::Path;

    use async_trait::async_trait;
    use bytes::Bytes;
    use rally_core::track::{Corpus, Documents, Track};

    use super::*;

    /// There is no other host.
    struct Nobody;

    #[async_trait]
    impl ContentSource for Nobody {
        async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
            Err(format!("nobody has {content}").into())
        }
    }

    fn place(data_dir: &Path) -> Place {
        let documents = Documents::builder("d.json", 300).target_index("places");
        let track = Track::builder("places").corpus(Corpus::builder("places").documents(documents));
        let track = track.property("indices", serde_json::json!([{ "name": "places" }]));
        let track = track
            .property("schedule", serde_json::json!([{ "operation": { "operation-type": "bulk", "bulk-size": 1 } }]));
        let track = track.build().unwrap();
        Place::of(data_dir, None, &track.corpora[0], &track.corpora[0].documents[0]).unwrap()
    }

    fn shipped(content: u8) -> ShippedFile {
        ShippedFile {
            corpus: "places".to_owned(),
            document_file: "d.json".to_owned(),
            content: ContentHash::from_bytes([content; 32]),
            length: 3_500,
            offsets: vec![(100, 1_000), (200, 2_100), (300, 3_000)],
            hosts: Vec::new(),
            parts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_slice_that_holds_more_than_is_read_need_not_be_fetched_again() {
        let directory = tempfile::tempdir().unwrap();
        let (place, shipped) = (place(directory.path()), shipped(7));
        fs::create_dir_all(&place.directory).unwrap();
        let slice = place.directory.join("d.json.0707070707070707.500-2100");
        fs::write(&slice, [0; 1_600]).unwrap();
        let content: Arc<dyn ContentSource> = Arc::new(Nobody);
        let fetch = async |lines| fetch_slice(&content, &place, &shipped, &lines, |_| panic!("it is fetched")).await;
        let file = fetch(100..200).await.unwrap();
        assert_eq!((file.path, file.begins_at, file.length), (slice.clone(), 500, 3_500));

        // One that has lost its end is not taken for whole.
        fs::write(&slice, [0; 1_599]).unwrap();
        assert_eq!(slices_here(&place, shipped.content).unwrap(), []);
    }

    #[test]
    fn slices_of_what_the_file_was_before_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        fs::create_dir_all(&place.directory).unwrap();
        let kept =
            ["d.json", "d.json.0707070707070707.0-5", "d.json.0808080808080808.0-5", "d.json.1-2.0-5", "d.json.bz2"];
        for name in kept.into_iter().chain(["d.json.0909090909090909.0-5", "d.json.0909090909090909.5-9"]) {
            fs::write(place.directory.join(name), "some").unwrap();
        }
        delete_old_slices(&place, &[shipped(7), shipped(8)]).unwrap();
        let names =
            fs::read_dir(&place.directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, kept);
    }

    #[test]
    fn a_slice_holds_its_lines() {
        let table = OffsetTable::new([(100, 1_000), (200, 2_100), (300, 3_000)], 3_500).unwrap();
        for (lines, bytes) in [
            (0..50, 0..1_000),
            (0..100, 0..1_000),
            (99..101, 0..2_100),
            (100..200, 1_000..2_100),
            (250..301, 2_100..3_500),
            (300..340, 3_000..3_500),
        ] {
            assert_eq!(bytes_of(&table, &lines, 3_500), bytes, "{lines:?}");
        }
    }
}
