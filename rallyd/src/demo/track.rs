//! The track that comes with the program, and the corpus that is made for it.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

const FILES: [(&str, &str); 2] =
    [("track.json", include_str!("track/track.json")), ("index.json", include_str!("track/index.json"))];

const FIRST_WORDS: [&str; 12] =
    ["Upper", "Lower", "New", "Old", "Saint", "Lake", "Mount", "East", "West", "Little", "Great", "Castle"];
const SECOND_WORDS: [&str; 12] =
    ["Haven", "Bridge", "Ford", "Hill", "Field", "Marsh", "Wood", "Mill", "Abbey", "Harbour", "Spring", "Crossing"];
const COUNTRIES: [&str; 8] = ["AT", "CH", "DE", "FR", "IT", "NO", "SE", "US"];

/// Writes the track into a directory.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write_track(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    FILES.iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
}

/// Writes the corpus of the track: places of an invented country, one JSON document a line, the same every time.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_corpus(file: &Path, documents: u64) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut out = BufWriter::new(fs::File::create(file)?);
    for number in 0..documents {
        let random = mix(number);
        let pick = |words: &[&'static str], shift: u32| words[(random >> shift) as usize % words.len()];
        let place = json!({
            "name": format!("{} {} {}", pick(&FIRST_WORDS, 0), pick(&SECOND_WORDS, 8), number % 100),
            "country_code": pick(&COUNTRIES, 16),
            "population": (random >> 20) % 1_000_000,
            "elevation": (random >> 40) % 4_000,
            "location": [(random >> 24) % 360, (random >> 48) % 180],
        });
        writeln!(out, "{place}")?;
    }
    out.flush()
}

/// Scrambles a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rally_core::track::{LoadOptions, TrackDirectory, load_track};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_track_loads_and_its_corpus_has_as_many_lines_as_it_says() {
        let home = TempDir::new().unwrap();
        write_track(home.path()).unwrap();
        let files = Arc::new(TrackDirectory::new(home.path()));
        let loaded = load_track(files, &LoadOptions { name: "demo".to_owned(), ..LoadOptions::default() }).unwrap();
        let documents = loaded.track.number_of_documents();
        assert_eq!(loaded.track.default_challenge().unwrap().schedule.len(), 6);

        let corpus = home.path().join("data/places/documents.json");
        write_corpus(&corpus, documents).unwrap();
        let text = fs::read_to_string(corpus).unwrap();
        assert_eq!(text.lines().count() as u64, documents);
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }
}
