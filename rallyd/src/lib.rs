//! The daemon and its command line as a library; the binary is a thin `main`.

pub mod track;
