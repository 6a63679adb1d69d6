//! Daemons that find and trust each other over QUIC, and roles that may be remote.

mod status;
mod transfer;

pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
pub use transfer::{
    Fetch, FetchError, FetchProgress, Fetched, FileName, InvalidFileName, MAX_CONTENT_LENGTH, MAX_MANIFEST_SIZE,
    Manifest, ManifestError, OfferError, Shelf, ShelfReader, Source, SourceError, SourceFailure, SourceFault, fetch,
};
