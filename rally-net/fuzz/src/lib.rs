//! What the fuzz targets have in common.

use rally_net::frame;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What decoding may hold for each byte of input. Room is reserved for as many items of a list as there are bytes left
/// (serde stops at 1 MiB), and the largest item, `TaskInterval`, has fewer bytes than this.
const MEMORY_PER_BYTE: u64 = 512;

/// What decoding may hold whatever the input is, in bytes: for the texts of errors, mostly.
const MEMORY_AT_LEAST: u64 = 4 << 10;

/// Decodes something of `length` bytes.
///
/// # Panics
///
/// It holds much more memory than that on the way.
pub fn bounded<T>(length: usize, decode: impl FnOnce() -> T) -> T {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(decode())).bytes_max;
    let limit = MEMORY_AT_LEAST + MEMORY_PER_BYTE * length as u64;
    assert!(allocated <= limit, "{length} bytes of input take {allocated} bytes of memory");
    result.expect("decoded")
}

/// Decodes the body of a frame; `None` if it is no `T`.
///
/// # Panics
///
/// What was decoded does not survive being encoded again.
pub fn round_trip<T: Serialize + DeserializeOwned>(body: &[u8]) -> Option<T> {
    let value: T = bounded(body.len(), || frame::decode(body)).ok()?;
    let encoded = frame::encode(&value).expect("what was decoded can be encoded");
    let again: T = frame::decode(&encoded[size_of::<u32>()..]).expect("what was encoded can be decoded");
    assert_eq!(frame::encode(&again).expect("as before"), encoded);
    Some(value)
}

/// Lets the first byte choose how the others are decoded.
pub fn choose(data: &[u8], decoders: &[fn(&[u8])]) {
    if let Some((first, body)) = data.split_first() {
        decoders[usize::from(*first) % decoders.len()](body);
    }
}

/// Whether a text could move a cursor when it is shown.
pub fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}
