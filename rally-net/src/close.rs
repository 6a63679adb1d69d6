//! Why connections end, in codes on the wire and in words for people.

use quinn::{ConnectionError, VarInt};

/// The reason that a host gives when it closes a connection or resets a stream. Codes are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// Something failed on this side; also used for streams.
    Failed = 1,
    /// The host leaves the cluster on purpose.
    Goodbye = 2,
    /// A newer connection of the same host has taken its place.
    Replaced = 3,
    /// The peer was silent for too long.
    Silent = 4,
    /// The peer did not keep to the protocol.
    Protocol = 5,
    /// The peer showed no certificate where one is needed.
    NoCertificate = 6,
    /// The peer was refused; the answer to its `Hello` said why.
    Refused = 7,
    /// Everything was said.
    Done = 8,
    /// The host serves as many connections as it can.
    Busy = 9,
}

impl CloseCode {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Failed, "it failed there"),
        (Self::Goodbye, "the host there has left"),
        (Self::Replaced, "a newer connection has taken its place"),
        (Self::Silent, "the host there had not heard from here for too long"),
        (Self::Protocol, "the host there did not understand what was sent"),
        (Self::NoCertificate, "the host there wants to see a certificate of its cluster"),
        (Self::Refused, "the host there refused the connection"),
        (Self::Done, "everything was said"),
        (Self::Busy, "the host there serves as many connections as it can"),
    ];

    fn from_wire(code: VarInt) -> Option<(Self, &'static str)> {
        Self::ALL.into_iter().find(|(known, _)| VarInt::from(*known) == code)
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// Whether the peer ended the connection on purpose and for good.
pub(crate) fn is_goodbye(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == CloseCode::Goodbye.into())
}

/// Says why a connection ended, as a clause.
pub(crate) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => match CloseCode::from_wire(close.error_code) {
            Some((_, words)) => words.to_owned(),
            None => format!("the host there closed it with the unknown code {}", close.error_code),
        },
        ConnectionError::TimedOut => "no packet has arrived for too long".to_owned(),
        ConnectionError::Reset => "the daemon there has been restarted".to_owned(),
        ConnectionError::LocallyClosed => "it was closed here".to_owned(),
        ConnectionError::ConnectionClosed(close) => match peer_text(&close.reason) {
            reason if reason.is_empty() => format!("it was closed there: {}", close.error_code),
            reason => format!("it was closed there: {}: {reason}", close.error_code),
        },
        ConnectionError::VersionMismatch | ConnectionError::TransportError(_) | ConnectionError::CidsExhausted => {
            error.to_string()
        }
    }
}

/// Texts with which peers end connections are cut off after this many characters; our own are shorter.
const MAX_PEER_TEXT: usize = 600;

/// The text with which a peer ended a connection, without anything that could harm a terminal: it may come from anybody.
pub(crate) fn peer_text(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).take(MAX_PEER_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quinn::{ConnectionClose, TransportErrorCode};

    use super::*;

    fn closed_with(reason: &[u8]) -> ConnectionError {
        let reason = reason.to_vec().into();
        ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::PROTOCOL_VIOLATION,
            frame_type: None,
            reason,
        })
    }

    #[test]
    fn the_reason_of_a_peer_is_shown_without_its_control_characters() {
        let words = describe(&closed_with(b"\x1b[2Jno such \r\nframe"));
        assert!(words.starts_with("it was closed there: ") && words.ends_with(": [2Jno such frame"), "{words}");
        assert!(!describe(&closed_with(b"\n")).ends_with(": "), "an empty reason leaves nothing behind");
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_at_the_end_is_short_and_harmless(reason: Vec<u8>, times in 1_usize..100) {
            let words = describe(&closed_with(&reason.repeat(times)));
            prop_assert!(!words.chars().any(char::is_control), "{words:?}");
            prop_assert!(words.chars().count() < MAX_PEER_TEXT + 200);
        }
    }

    #[test]
    fn every_code_has_its_own_number_and_words() {
        for (code, words) in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(code.into()), Some((code, words)));
        }
        assert_eq!(CloseCode::from_wire(VarInt::from_u32(0)), None);
    }
}
