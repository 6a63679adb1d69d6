//! The `rallyd` binary.

fn main() {}
