//! The texts with which a peer, known or not, ends a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quinn::{ConnectionClose, ConnectionError, TransportErrorCode};
use rally_net::explain_connection_error;
use rally_net_fuzz::{bounded, has_control_characters};

fuzz_target!(|input: (Option<u8>, &[u8])| {
    let (alert, reason) = input;
    let error_code = alert.map_or(TransportErrorCode::PROTOCOL_VIOLATION, TransportErrorCode::crypto);
    let close = ConnectionClose { error_code, frame_type: None, reason: reason.to_vec().into() };
    let error = ConnectionError::ConnectionClosed(close);
    let explained = bounded(reason.len(), || explain_connection_error(&error));
    assert_eq!(explained.is_some(), alert.is_some(), "a matter of TLS or not");
    if let Some(text) = explained {
        assert!(!has_control_characters(&text), "{text:?}");
        assert!(text.chars().count() <= 700, "{} characters", text.chars().count());
    }
});
