//! Identifiers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One host (a machine that runs the daemon) of a cluster, for as long as it keeps its certificate.
///
/// The coordinator assigns it when the host joins; it is random and never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(u128);

impl HostId {
    /// Makes an id of 128 random bits.
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of the id.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for HostId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({self})")
    }
}

impl Serialize for HostId {
    /// As text in formats for people, as bits elsewhere.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for HostId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// The text is not a host id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a host id has 32 hexadecimal digits")]
pub struct ParseHostIdError;

impl FromStr for HostId {
    type Err = ParseHostIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseHostIdError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ParseHostIdError)
    }
}

/// Counts the starts of one host's daemon; a message of an older epoch changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One execution of one challenge: Rally's race id, a UUID unless the user chose a text of their own.
///
/// It names a directory of the archive, so it has 1 to 128 letters, digits, `.`, `_` or `-` and does not begin with a
/// dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RaceId(String);

impl RaceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text cannot be a race id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a race id: 1 to 128 letters, digits, `.`, `_` or `-` are expected, and no leading dot")]
pub struct InvalidRaceId(String);

impl TryFrom<String> for RaceId {
    type Error = InvalidRaceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=128).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidRaceId(text.chars().take(128).collect()))
        }
    }
}

impl FromStr for RaceId {
    type Err = InvalidRaceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<RaceId> for String {
    fn from(id: RaceId) -> Self {
        id.0
    }
}

impl fmt::Display for RaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A barrier that every client reaches before the next tasks start; the first one, before any task, is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JoinPoint(pub u32);

impl fmt::Display for JoinPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_id_survives_its_text_form() {
        let id = HostId::from_random(0x00ff_1234);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("+0000000000000000000000000000000".parse::<HostId>(), Err(ParseHostIdError));
    }

    #[test]
    fn a_race_id_is_a_safe_directory_name() {
        for good in ["7f0b1b2e-4c54-4bc6-9e4b-1a2b3c4d5e6f", "nightly_2026.11", "a"] {
            assert_eq!(good.parse::<RaceId>().expect("valid").as_str(), good);
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ü", &"x".repeat(129)] {
            assert!(bad.parse::<RaceId>().is_err(), "{bad}");
        }
    }
}
