//! Manifests as a source sends them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_net::{MAX_CONTENT_LENGTH, MAX_MANIFEST_SIZE, Manifest};
use rally_net_fuzz::{bounded, round_trip};

fuzz_target!(|data: &[u8]| {
    // A manifest does not come in a frame, and what follows it is not looked at.
    let Ok(manifest) = bounded(data.len(), || postcard::from_bytes::<Manifest>(data)) else { return };
    assert!(manifest.length() <= MAX_CONTENT_LENGTH);
    let encoded = postcard::to_stdvec(&manifest).expect("what was decoded can be encoded");
    assert!(encoded.len() <= MAX_MANIFEST_SIZE);
    assert_eq!(round_trip::<Manifest>(&encoded), Some(manifest));
});
