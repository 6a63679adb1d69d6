//! Requests: the head, and the request behind it.
//!
//! The types of the requests are private, but postcard gives a struct the bytes of its fields one after the other, so
//! tuples with the same fields stand for them here.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use rally_core::{
    ContentHash, DriverAssignment, JoinPoint, NodePlan, RaceId, RaceRequest, Role, Sequence, Step, StopMode,
};
use rally_net::{Head, LeaseId};
use rally_net_fuzz::{bounded, choose, round_trip};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn request<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok((head, rest)) = bounded(body.len(), || postcard::take_from_bytes::<Head<'_>>(body)) else { return };
    let encoded = postcard::to_stdvec(&(&head, Raw(rest))).expect("what was decoded can be encoded");
    assert!(encoded.len() <= body.len() && encoded.ends_with(rest));
    assert_eq!(postcard::take_from_bytes(&encoded), Ok((head, rest)));
    round_trip::<T>(rest);
}

/// Bytes without their length.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

fuzz_target!(|data: &[u8]| {
    choose(
        data,
        &[
            request::<()>,
            request::<Vec<u8>>,
            request::<DriverAssignment>,
            request::<NodePlan>,
            request::<RaceRequest>,
            request::<(RaceId, Sequence)>,
            request::<(RaceId, u64)>,
            request::<(RaceId, Step)>,
            request::<(RaceId, JoinPoint)>,
            request::<(RaceId, StopMode)>,
            request::<(Role, RaceId)>,
            request::<(Role, LeaseId)>,
            request::<ContentHash>,
            request::<(ContentHash, Range<u64>)>,
        ],
    );
});
