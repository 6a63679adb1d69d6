//! A race in small: an embedded target and a track that comes with the program.

mod stand_in;
mod track;

pub use stand_in::StandIn;
pub use track::{write_corpus, write_track};
