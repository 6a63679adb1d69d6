//! Bulk transfer: files and byte ranges by the hash of their content.
//!
//! A [`Shelf`] offers files, [`fetch`] reads a content from any number of [`Source`]s into a file. The module knows
//! nothing about the network: a peer is a [`Source`], and its shelf answers with a [`Manifest`] and a [`ShelfReader`].
//!
//! Nothing that a source says is trusted. The hash of the content vouches for the manifest, the manifest for each group
//! of bytes, and only verified bytes reach the disk.

mod blocking;
mod error;
mod fetch;
mod file_name;
mod manifest;
mod part;
mod plan;
mod run_reader;
mod share;
mod shelf;
mod source;
mod store;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::{FetchError, SourceFailure, SourceFault};
pub use fetch::{Fetch, FetchProgress, Fetched, Served, fetch};
pub use file_name::{FileName, InvalidFileName};
pub use manifest::{MAX_CONTENT_LENGTH, MAX_MANIFEST_SIZE, Manifest, ManifestError};
pub use shelf::{OfferError, Shelf, ShelfReader};
pub use source::{PartialSource, Source, SourceError};
