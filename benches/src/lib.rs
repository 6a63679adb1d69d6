//! What the benches in `benches/` share: two sides on loopback, once as hosts and once as bare QUIC.

mod bare;
mod compare;
mod hosts;
mod membership;
mod sides;

pub use bare::{Bare, credentials};
pub use compare::Comparison;
pub use hosts::{BulkFile, Echo, Hosts};
pub use membership::Cluster;
pub use sides::{Sides, scratch};
