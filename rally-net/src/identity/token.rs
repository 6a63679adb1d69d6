//! What a user copies from the coordinator to a host that is to join.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// The name of a join token, for listing and revoking it; no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(pub(super) u32);

impl fmt::Display for TokenId {
    /// Eight lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The text is not a token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token id has 8 hexadecimal digits, as `rallyd token list` shows them")]
pub struct ParseTokenIdError;

impl FromStr for TokenId {
    type Err = ParseTokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseTokenIdError);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| ParseTokenIdError)
    }
}

impl TryFrom<String> for TokenId {
    type Error = ParseTokenIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

/// What a host shows to be let in, once it knows that it talks to the right coordinator: 128 random bits.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenSecret(pub(super) [u8; Self::LENGTH]);

impl TokenSecret {
    /// In bytes.
    const LENGTH: usize = 16;
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

/// Everything a host needs to join a cluster besides an address: one word to copy.
///
/// `Display` gives that word, **with the secret**, and `FromStr` reads it; `Debug` leaves the secret out. The word ends
/// with a checksum, so that a slip in copying is not mistaken for a wrong token.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The authority that the coordinator has to show before it is shown the secret.
    pub fingerprint: Fingerprint,
    /// Which token this is.
    pub id: TokenId,
    /// What is shown to the coordinator.
    pub secret: TokenSecret,
    /// When the token ends, in whole seconds.
    pub expires: SystemTime,
}

/// The beginning of the word; the digit is the version of what follows.
const PREFIX: &str = "rally1-";

/// The end of the word's payload, in bytes.
const CHECKSUM_LENGTH: usize = 4;

/// What the word carries, in bytes: fingerprint, id, secret, seconds since 1970, checksum.
const PAYLOAD_LENGTH: usize = Fingerprint::LENGTH + 4 + TokenSecret::LENGTH + 8 + CHECKSUM_LENGTH;

/// The length of the part after the prefix, in characters of six bits each.
const ENCODED_LENGTH: usize = (PAYLOAD_LENGTH * 4).div_ceil(3);

/// The text is not a join token, or was not copied as a whole. The text itself, a secret, does not stand in the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokenError {
    /// It does not begin like a token.
    #[error("this is not a join token: one begins with `{PREFIX}`, as `rallyd token create` prints it")]
    NotAToken,
    /// It begins like a token of another version.
    #[error(
        "this join token has format {found}, and this version of rallyd reads format 1: use the same version on all hosts"
    )]
    OtherFormat {
        /// The number after `rally`.
        found: String,
    },
    /// Characters are missing.
    #[error("the join token is cut off: it has {found} characters instead of {expected}; copy it again as a whole")]
    TooShort {
        /// Its length in characters.
        found: usize,
        /// What it should be.
        expected: usize,
    },
    /// There are more characters than a token has.
    #[error("the join token has {found} characters instead of {expected}; copy it again, and nothing else")]
    TooLong {
        /// Its length in characters.
        found: usize,
        /// What it should be.
        expected: usize,
    },
    /// A character cannot be part of a token.
    #[error("character {position} of the join token cannot be part of one; copy it again")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// The checksum does not fit.
    #[error("the join token has a typing error, since its checksum does not fit; copy it again")]
    Checksum,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expires = self.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut payload = Vec::with_capacity(PAYLOAD_LENGTH);
        payload.extend_from_slice(self.fingerprint.as_bytes());
        payload.extend_from_slice(&self.id.0.to_be_bytes());
        payload.extend_from_slice(&self.secret.0);
        payload.extend_from_slice(&expires.to_be_bytes());
        payload.extend_from_slice(&checksum(&payload));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    /// Reads the word; white space around it is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(other_format(text).unwrap_or(ParseTokenError::NotAToken));
        };
        if let Some(at) = encoded.chars().position(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
            return Err(ParseTokenError::Character { position: PREFIX.len() + at + 1 });
        }
        let (found, expected) = (text.len(), PREFIX.len() + ENCODED_LENGTH);
        if found < expected {
            return Err(ParseTokenError::TooShort { found, expected });
        }
        if found > expected {
            return Err(ParseTokenError::TooLong { found, expected });
        }
        let payload = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| ParseTokenError::Checksum)?;
        Self::from_payload(&payload).ok_or(ParseTokenError::Checksum)
    }
}

impl JoinToken {
    fn from_payload(payload: &[u8]) -> Option<Self> {
        let (content, sum) = payload.split_last_chunk::<CHECKSUM_LENGTH>()?;
        if *sum != checksum(content) {
            return None;
        }
        let (fingerprint, rest) = content.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        let expires = Duration::from_secs(u64::from_be_bytes(rest.try_into().ok()?));
        Some(Self {
            fingerprint: Fingerprint::from_bytes(*fingerprint),
            id: TokenId(u32::from_be_bytes(*id)),
            secret: TokenSecret(*secret),
            expires: SystemTime::UNIX_EPOCH.checked_add(expires)?,
        })
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut sum = [0; CHECKSUM_LENGTH];
    sum.copy_from_slice(&digest(&SHA256, content).as_ref()[..CHECKSUM_LENGTH]);
    sum
}

/// Tells a token of another format from any other text.
fn other_format(text: &str) -> Option<ParseTokenError> {
    let (digits, _) = text.strip_prefix("rally")?.split_once('-')?;
    let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| ParseTokenError::OtherFormat { found: digits.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            fingerprint: Fingerprint::from_bytes([0xab; 32]),
            id: TokenId(0x1234_5678),
            secret: TokenSecret(*b"open sesame, ok?"),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn the_form_of_a_token_stays_as_it_is() {
        assert_eq!(
            token().to_string(),
            "rally1-q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6sSNFZ4b3BlbiBzZXNhbWUsIG9rPwAAAABrSdIAysHtVA"
        );
    }

    #[test]
    fn a_slip_in_copying_is_told_from_a_wrong_token() {
        let good = token().to_string();
        let length = good.len();
        let parse = |text: &str| text.parse::<JoinToken>().map(|token| token.to_string());
        assert_eq!(parse(&format!(" {good}\n")), Ok(good.clone()));
        for text in ["", "rally", "hello", "rally1", "rally-abc", "rallyx-abc", "Rally1-abc", &good[1..]] {
            assert_eq!(parse(text), Err(ParseTokenError::NotAToken), "{text}");
        }
        assert_eq!(parse("rally2-abc"), Err(ParseTokenError::OtherFormat { found: "2".to_owned() }));
        let short = ParseTokenError::TooShort { found: length - 1, expected: length };
        assert_eq!(parse(&good[..length - 1]), Err(short));
        let long = ParseTokenError::TooLong { found: 2 * length, expected: length };
        assert_eq!(parse(&format!("{good}{good}")), Err(long));
        assert_eq!(parse(&good.replacen("q6", "q ", 1)), Err(ParseTokenError::Character { position: 9 }));
        assert_eq!(parse(&good.replacen("q6", "qü", 1)), Err(ParseTokenError::Character { position: 9 }));
        assert_eq!(parse(&good.replacen("q6", "q7", 1)), Err(ParseTokenError::Checksum));
    }

    #[test]
    fn neither_the_debug_form_nor_an_error_shows_the_secret() {
        let token = token();
        let shown = format!("{token:?} {token:#?}");
        assert!(shown.contains("TokenSecret") && !shown.contains("111"), "{shown}");
        let text = token.to_string();
        for slip in [&text[1..], &text[..60], &text.replacen("q6", "q7", 1)] {
            let error = slip.parse::<JoinToken>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&text[50..58]), "{error}");
        }
    }

    #[test]
    fn a_token_id_survives_its_text_form() {
        assert_eq!("0000beef".parse(), Ok(TokenId(0xbeef)));
        assert_eq!(TokenId(0xbeef).to_string(), "0000beef");
        for bad in ["", "beef", "0000beeg", "+000beef", "0000beef0"] {
            assert_eq!(bad.parse::<TokenId>(), Err(ParseTokenIdError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_token_survives_its_text_form(
            fingerprint: [u8; 32], id: u32, secret: [u8; 16], seconds in 0..=i64::MAX as u64,
        ) {
            let token = JoinToken {
                fingerprint: Fingerprint::from_bytes(fingerprint),
                id: TokenId(id),
                secret: TokenSecret(secret),
                expires: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            };
            let read: JoinToken = token.to_string().parse().unwrap();
            prop_assert_eq!(read.fingerprint, token.fingerprint);
            prop_assert_eq!(read.id, token.id);
            prop_assert_eq!(read.secret.0, secret);
            prop_assert_eq!(read.expires, token.expires);
        }

        #[test]
        fn any_text_is_refused_without_panic(text in "(rally1-)?\\PC{0,110}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
        }

        #[test]
        fn one_wrong_character_is_noticed(position in 0usize..98, c in "[A-Za-z0-9_-]") {
            let good = token().to_string();
            let mut text = good.clone();
            let position = position % text.len();
            text.replace_range(position..=position, &c);
            prop_assume!(text != good);
            prop_assert!(text.parse::<JoinToken>().is_err());
        }

        #[test]
        fn any_payload_with_a_good_checksum_is_read_or_refused(mut content: Vec<u8>) {
            content.resize(PAYLOAD_LENGTH - CHECKSUM_LENGTH, 0xff);
            let sum = checksum(&content);
            content.extend(sum);
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(content));
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
