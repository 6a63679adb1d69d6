//! Answers, and the items of subscriptions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_core::{DriverEvent, HostFacts, ProvisionerEvent, RaceEvent, RaceStatus, RoleError};
use rally_net::{HostSummary, LeaseId, Rejection, SourceError};
use rally_net_fuzz::{choose, round_trip};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The one answer of a call.
fn answer<T: Serialize + DeserializeOwned>(body: &[u8]) {
    round_trip::<Result<T, Rejection>>(body);
}

/// One of many.
fn item<T: Serialize + DeserializeOwned>(body: &[u8]) {
    round_trip::<Result<T, RoleError>>(body);
}

/// One of the hosts that the coordinator lists.
fn host(body: &[u8]) {
    round_trip::<HostSummary>(body);
}

fn bytes_follow(body: &[u8]) {
    round_trip::<Result<(), SourceError>>(body);
}

fuzz_target!(|data: &[u8]| {
    choose(
        data,
        &[
            answer::<()>,
            host,
            answer::<Result<Vec<Vec<u8>>, String>>,
            answer::<Result<(), RoleError>>,
            answer::<Result<HostFacts, RoleError>>,
            answer::<Result<LeaseId, RoleError>>,
            answer::<Result<Option<RaceStatus>, RoleError>>,
            item::<DriverEvent>,
            item::<ProvisionerEvent>,
            item::<RaceEvent>,
            bytes_follow,
        ],
    );
});
