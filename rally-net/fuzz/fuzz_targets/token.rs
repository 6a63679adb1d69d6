//! Texts that a user pastes, and that also travel as texts: join tokens, token ids, fingerprints, file names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_net::{FileName, Fingerprint, JoinToken, TokenId};

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string(), text.trim(), "a token has one form");
    }
    if let Ok(id) = text.parse::<TokenId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text.to_ascii_uppercase());
    }
    if let Ok(name) = text.parse::<FileName>() {
        let path = std::path::Path::new("directory").join(name.as_str());
        assert_eq!(path.components().count(), 2, "{name} leads elsewhere");
        assert!(!name.as_str().chars().any(char::is_control));
    }
});
