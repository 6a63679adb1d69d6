//! What is wrong with a track, and where.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One fault of a track: where it is, what was found there, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The JSON pointer into the rendered track.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub problem: String,
    /// What stands there, as JSON, shortened if it is long. None if nothing does.
    pub found: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "(the whole track)" } else { &self.pointer };
        write!(f, "{pointer}: {}", self.problem)?;
        match &self.found {
            Some(found) => write!(f, ", found {found}"),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// The key of the track below which it is; empty if it is one of the whole track.
    pub(crate) fn section(&self) -> &str {
        self.pointer.split('/').nth(1).unwrap_or_default()
    }
}

/// Characters of a value that are shown.
const MAX_SHOWN: usize = 80;

/// A JSON value within a track, which knows where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    place: Place<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Root,
    Key(&'a Node<'a>, &'a str),
    Index(&'a Node<'a>, usize),
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, place: Place::Root }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The member `key`, if this is an object that has it. `null` counts as a member.
    pub(crate) fn get(&'a self, key: &'a str) -> Option<Self> {
        Some(Self { value: self.value.get(key)?, place: Place::Key(self, key) })
    }

    /// The members, if this is an object.
    pub(crate) fn members(&'a self) -> impl Iterator<Item = (&'a str, Self)> {
        let members = self.value.as_object().into_iter().flatten();
        members.map(|(key, value)| (key.as_str(), Self { value, place: Place::Key(self, key) }))
    }

    /// The elements, if this is an array.
    pub(crate) fn elements(&'a self) -> impl Iterator<Item = Self> {
        let values = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().enumerate().map(|(index, value)| Self { value, place: Place::Index(self, index) })
    }

    /// A fault of this value.
    pub(crate) fn fault(&self, problem: impl Into<String>) -> Fault {
        let text = self.value.to_string();
        let mut shown: String = text.chars().take(MAX_SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Fault { found: Some(shown), ..self.lack(problem) }
    }

    /// A fault of something that is not there.
    pub(crate) fn lack(&self, problem: impl Into<String>) -> Fault {
        let mut pointer = String::new();
        self.write_pointer(&mut pointer);
        Fault { pointer, problem: problem.into(), found: None }
    }

    fn write_pointer(&self, out: &mut String) {
        match self.place {
            Place::Root => {}
            Place::Key(parent, key) => {
                parent.write_pointer(out);
                out.push('/');
                out.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Place::Index(parent, index) => {
                parent.write_pointer(out);
                out.push('/');
                out.push_str(&index.to_string());
            }
        }
    }
}
