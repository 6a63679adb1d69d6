//! Heartbeats and their answers, and what the clock filter makes of the answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_core::Activity;
use rally_net::protocol::Datagram;
use rally_net::{ClockFilter, ClockSample, LocalTime};
use rally_net_fuzz::round_trip;

fuzz_target!(|datagrams: Vec<(u64, &[u8])>| {
    let mut filter = ClockFilter::new();
    for (received, bytes) in datagrams {
        let Some(datagram) = round_trip::<Datagram>(bytes) else { continue };
        let sound = datagram.is_sound();
        match datagram {
            Datagram::Heartbeat { activity, .. } => {
                if let Activity::Racing { roles, .. } = activity {
                    assert_eq!(sound, roles.len() <= 8);
                }
            }
            Datagram::Answer { sent, received_there, sent_there } => {
                let received = LocalTime::from_nanos(received);
                if filter.record(ClockSample { sent, received_there, sent_there, received }).is_ok() {
                    assert!(filter.estimate(received).is_some() && filter.round_trip().is_some());
                }
                filter.estimate(LocalTime::from_nanos(u64::MAX));
            }
        }
    }
});
