//! What a driver fetches from other hosts of a file of documents that it does not have: the bytes that its clients read.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rally_core::{ContentHash, ShippedFile};

use super::place::{Place, length};
use super::progress::Progress;
use super::{CorpusError, DocumentFile, OffsetTable};
use crate::driver::ContentSource;

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
    let name = format!("{}{}-{}", prefix(place, shipped.content), range.start, range.end);
    let path = place.directory.join(&name);
    if length(&path)? != Some(range.end - range.start) && !range.is_empty() {
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
    let cannot_read = |source| CorpusError::Read { path: place.directory.clone(), source };
    let files = match fs::read_dir(&place.directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(error)),
    };
    let prefix = prefix(place, content);
    let mut slices = Vec::new();
    for file in files {
        let file = file.map_err(cannot_read)?;
        let name = file.file_name();
        let bytes = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split_once('-'));
        let Some((Ok(start), Ok(end))) = bytes.map(|(start, end)| (start.parse::<u64>(), end.parse::<u64>())) else {
            continue;
        };
        let path = file.path();
        if start < end && length(&path)? == Some(end - start) {
            slices.push((start..end, path));
        }
    }
    slices.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    Ok(slices)
}

/// What the name of a slice begins with. It says what is in it, so that a slice that is there is the right one.
fn prefix(place: &Place, content: ContentHash) -> String {
    let (hash, name) = (content.to_string(), place.file());
    format!("{}.{}.", name.file_name().unwrap_or_default().to_string_lossy(), &hash[..16])
}

/// The bytes that hold these lines, and some more at either end.
fn bytes_of(table: &OffsetTable, lines: &Range<u64>, length: u64) -> Range<u64> {
    table.before(lines.start).byte..table.behind(lines.end).map_or(length, |behind| behind.byte)
}

#[cfg(test)]
mod tests {
    use super::*;

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
