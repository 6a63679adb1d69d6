//! A race in small: an embedded target and a track that comes with the program.

mod stand_in;

pub use stand_in::StandIn;
