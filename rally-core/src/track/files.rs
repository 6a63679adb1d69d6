//! Where the files of a track come from: a folder, or memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// The files of one track. This is all that the loader asks of the outside world.
///
/// Paths are relative to the folder of the track, with `/` between their components. They may climb out of it with `..`,
/// as tracks that share files with their neighbours do.
pub trait TrackFiles: Send + Sync {
    /// Reads a text file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file, [`io::ErrorKind::InvalidData`] if it is not UTF-8.
    fn read(&self, path: &str) -> io::Result<String>;

    /// Names of the files and folders in a folder, in any order. The folder of the track itself is the empty path.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
}

/// A track in a folder of the file system.
#[derive(Clone, Debug)]
pub struct TrackDirectory {
    root: PathBuf,
}

impl TrackDirectory {
    /// The track in `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the track.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl TrackFiles for TrackDirectory {
    fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(self.root.join(path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        std::fs::read_dir(self.root.join(folder))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// A track in memory: paths and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryFiles {
    files: BTreeMap<String, String>,
}

impl MemoryFiles {
    /// A track with no file yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or replaces it.
    #[must_use]
    pub fn with(mut self, path: &str, text: impl Into<String>) -> Self {
        self.insert(path, text);
        self
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, path: &str, text: impl Into<String>) {
        self.files.insert(normalize(path), text.into());
    }

    /// All files: path and text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

impl TrackFiles for MemoryFiles {
    fn read(&self, path: &str) -> io::Result<String> {
        self.files.get(&normalize(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let folder = normalize(folder);
        let names: BTreeSet<String> = self
            .files
            .keys()
            .filter_map(|path| {
                if folder.is_empty() { Some(path.as_str()) } else { path.strip_prefix(&folder)?.strip_prefix('/') }
            })
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names.into_iter().collect()) }
    }
}

/// Removes `.` and `name/..` from a path.
pub(crate) fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The folder part of a path, empty if it has none.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Puts a path below a folder.
pub(crate) fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") }
}

/// Reads a text file with line ends as `\n`, whatever they are in the file.
pub(crate) fn read_text(files: &dyn TrackFiles, path: &str) -> io::Result<String> {
    let text = files.read(path)?;
    if text.contains('\r') { Ok(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Ok(text) }
}

/// The paths that match a pattern of `*`, `?` and `[...]`, sorted. A name with a leading dot has to be asked for.
pub(crate) fn expand_pattern(files: &dyn TrackFiles, pattern: &str) -> io::Result<Vec<String>> {
    let mut found = vec![String::new()];
    for part in pattern.split('/') {
        if !part.contains(['*', '?', '[']) {
            for path in &mut found {
                *path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
            }
            continue;
        }
        let names = Pattern::new(part).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let mut next = Vec::new();
        for folder in found {
            match files.list(&folder) {
                Ok(entries) => next.extend(
                    entries.iter().filter(|name| names.matches_with(name, options)).map(|name| join(&folder, name)),
                ),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> MemoryFiles {
        MemoryFiles::new()
            .with("track.json", "{}")
            .with("challenges/a.json", "a")
            .with("challenges/b.json", "b\r\nc")
            .with("challenges/.hidden.json", "")
            .with("challenges/deep/c.json", "c")
            .with("operations/a.txt", "")
    }

    #[test]
    fn patterns_match_names_but_never_cross_a_folder() {
        for (pattern, expected) in [
            ("challenges/*.json", vec!["challenges/a.json", "challenges/b.json"]),
            ("challenges/?.json", vec!["challenges/a.json", "challenges/b.json"]),
            ("challenges/[b-z].json", vec!["challenges/b.json"]),
            ("*/*.txt", vec!["operations/a.txt"]),
            ("challenges/.*.json", vec!["challenges/.hidden.json"]),
            ("nowhere/*.json", vec![]),
            ("challenges/a.json", vec!["challenges/a.json"]),
        ] {
            assert_eq!(expand_pattern(&files(), pattern).unwrap(), expected, "{pattern}");
        }
    }

    #[test]
    fn memory_finds_a_file_whatever_way_the_path_takes() {
        assert_eq!(files().read("challenges/deep/../a.json").unwrap(), "a");
        assert_eq!(files().read("./operations/../track.json").unwrap(), "{}");
        assert_eq!(files().read("nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(files().list("challenges/deep").unwrap(), ["c.json"]);
    }

    #[test]
    fn line_ends_of_windows_are_read_as_plain_ones() {
        assert_eq!(read_text(&files(), "challenges/b.json").unwrap(), "b\nc");
    }
}
