//! Answers that are given without any network, to measure the driver itself.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::InvalidClientOptions;

/// Answers by the path of the request. The first one that fits is given.
#[derive(Clone, Debug)]
pub(super) struct StaticResponses(Vec<(String, Bytes)>);

#[derive(Deserialize)]
struct Entry {
    path: String,
    body: Box<RawValue>,
}

impl StaticResponses {
    pub(super) fn read(file: &Path) -> Result<Self, InvalidClientOptions> {
        let wrong = |problem: String| InvalidClientOptions { option: "static_responses".to_owned(), problem };
        let text = fs::read(file).map_err(|error| wrong(format!("cannot read {}: {error}", file.display())))?;
        let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("{} must be a list of objects with `path` and `body`: {error}", file.display()))
        })?;
        let entry = |entry: Entry| (entry.path, Bytes::from(String::from(Box::<str>::from(entry.body))));
        Ok(Self(entries.into_iter().map(entry).collect()))
    }

    /// The answer to a request for this path, query included or not.
    pub(super) fn answer(&self, path: &str) -> Option<Bytes> {
        let path = path.split('?').next().unwrap_or_default();
        self.0.iter().find(|(pattern, _)| fits(pattern, path)).map(|(_, body)| body.clone())
    }
}

/// `*` fits all, a star at the start means the end of the path, a star at the end its start.
fn fits(pattern: &str, path: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => path.ends_with(end),
        (None, Some(start)) => path.starts_with(start),
        (None, None) => path == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"[{"path": "*_bulk", "body": {"errors": false}}, {"path": "/_cluster/*", "body": 1}, {"path": "/", "body": []}]"#;
        fs::write(file.path(), text).unwrap();
        let responses = StaticResponses::read(file.path()).unwrap();
        for (path, expected) in [
            ("/logs/_bulk?refresh=true", Some(r#"{"errors": false}"#)),
            ("/_cluster/health", Some("1")),
            ("/", Some("[]")),
            ("/logs", None),
        ] {
            assert_eq!(responses.answer(path).as_deref(), expected.map(str::as_bytes), "{path}");
        }
        let problem = StaticResponses::read(Path::new("/nowhere/at/all.json")).unwrap_err().to_string();
        assert!(problem.contains("cannot read /nowhere/at/all.json"), "{problem}");
    }
}
