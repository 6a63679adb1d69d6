//! Names that cannot lead out of a directory.

use std::fmt;
use std::str::FromStr;

/// The name of a file to fetch into: one component of a path, so that it cannot lead out of its directory.
///
/// It has 1 to 200 bytes, does not begin with a dot (those names belong to unfinished fetches), and has no slash,
/// backslash or control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a name that a file may be fetched into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a safe file name: 1 to 200 bytes are expected, no leading dot, and no slash, backslash or control \
     character"
)]
pub struct InvalidFileName(String);

impl TryFrom<String> for FileName {
    type Error = InvalidFileName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let forbidden = |letter: char| matches!(letter, '/' | '\\') || letter.is_control();
        if (1..=200).contains(&text.len()) && !text.starts_with('.') && !text.contains(forbidden) {
            Ok(Self(text))
        } else {
            Err(InvalidFileName(text.chars().take(200).collect()))
        }
    }
}

impl FromStr for FileName {
    type Err = InvalidFileName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_component() {
        for good in ["documents-2.json.bz2", "a", "with space", "größe.json", "a..b", &"x".repeat(200)] {
            assert_eq!(good.parse::<FileName>().expect("valid").as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "/abs", "a/b", "a/", "a\\b", "a\0b", "a\nb", ".hidden", &"x".repeat(201)] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
    }
}
