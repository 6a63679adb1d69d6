//! Criterion benches of the whole workspace; see the files in `benches/`.
