//! Integration tests of `rally-net`, one module per subject.

mod simulation;
