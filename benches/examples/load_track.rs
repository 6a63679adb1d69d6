//! Loads a track several times and prints the seconds that each took, as JSON; for `scripts/track_loading.py`.

use std::sync::Arc;
use std::time::Instant;

use rally_core::track::{LoadOptions, TrackDirectory, load_track};

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("usage: load_track DIRECTORY ROUNDS");
    let rounds: usize =
        arguments.next().and_then(|text| text.parse().ok()).expect("usage: load_track DIRECTORY ROUNDS");
    let files = Arc::new(TrackDirectory::new(directory));
    let times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            load_track(files.clone(), &LoadOptions::default()).expect("the track is valid");
            start.elapsed().as_secs_f64()
        })
        .collect();
    println!("{times:?}");
}
