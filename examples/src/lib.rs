//! Programs that show the crates at work: `cargo run -p examples --example cluster`.
