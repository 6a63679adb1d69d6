//! What can be wrong with a template, or with the text that it gives.

use std::fmt::Write as _;
use std::io;

use crate::track::source::Location;

/// A template could not be turned into JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file of the track could not be read.
    #[error("{}cannot read `{path}`: {source}", prefix(.from.as_ref()))]
    Read {
        /// The file, relative to the folder of the track.
        path: String,
        /// Where it is asked for, unless it is the track itself.
        from: Option<Location>,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A file is among the parts that it collects.
    #[error("{location}: `rally.collect` goes in a circle: {chain}")]
    CollectsItself {
        /// The files, in the order in which they collect each other.
        chain: String,
        /// Where the circle closes.
        location: Location,
    },
    /// The template or what it renders to is too large.
    #[error("{}the template is larger than {} MiB, with its parts or rendered", prefix(.location.as_ref()), .limit >> 20)]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The part that went beyond it, if one did.
        location: Option<Location>,
    },
    /// The template takes too many steps, or makes or keeps so much that it counts for too many.
    #[error("{}the template takes too many steps or makes too much text: it may take {limit} steps", prefix(.location.as_ref()))]
    Endless {
        /// The limit, in steps.
        limit: u64,
        /// Where the template was.
        location: Option<Location>,
    },
    /// The template has a syntax error, or fails while it is rendered.
    #[error("{}{message}{}", prefix(.location.as_ref()), suffix(.excerpt.as_deref()))]
    Engine {
        /// What is wrong.
        message: String,
        /// Where, as far as it is known.
        location: Option<Location>,
        /// The line of the template, with a caret below.
        excerpt: Option<String>,
    },
    /// What the template renders to is not JSON.
    #[error(transparent)]
    Json(Box<JsonError>),
}

/// A rendered template is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}{message} at line {line}, column {column} of what `{file}` renders to{}",
    prefix(.origin.as_ref()), suffix(Some(.excerpt))
)]
pub struct JsonError {
    /// The template.
    pub file: String,
    /// What is wrong.
    pub message: String,
    /// The line of the rendered text, counted from 1.
    pub line: usize,
    /// The column of the rendered text in characters, counted from 1.
    pub column: usize,
    /// Byte of the rendered text.
    pub(crate) offset: usize,
    /// The lines around it, with a caret.
    pub excerpt: String,
    /// The place in the template, or one of its parts, that gave this text.
    pub origin: Option<Location>,
}

/// Lines that are shown before and after the one that is wrong.
const CONTEXT: usize = 3;

/// Characters of a line that are shown.
const MAX_WIDTH: usize = 160;

impl JsonError {
    pub(crate) fn new(file: &str, text: &str, error: &serde_json::Error) -> Self {
        // Lines and columns count from 1, columns in bytes; at the end of a line the column can be 0.
        let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut offset = (line_start + error.column().saturating_sub(1)).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let whole = error.to_string();
        let message = match whole.rsplit_once(" at line ") {
            _ if text.trim().is_empty() => "there is nothing but blanks",
            Some((message, _)) => message,
            None => &whole,
        }
        .to_owned();
        Self {
            file: file.to_owned(),
            message,
            line: error.line().max(1),
            column: text[line_start.min(offset)..offset].chars().count() + 1,
            offset,
            excerpt: excerpt(text, offset),
            origin: None,
        }
    }

    pub(crate) fn with_origin(self, origin: Option<Location>) -> Self {
        Self { origin, ..self }
    }

    /// Names the expression that stands just before the fault, if `text` shows that it rendered to nothing.
    pub(crate) fn with_empty(self, expression: Option<String>, text: &str) -> Self {
        let value_is_missing = text[..self.offset].trim_end().ends_with([':', ',', '[']);
        match expression.filter(|_| value_is_missing) {
            Some(expression) => Self {
                message: format!("{}, because `{{{{ {expression} }}}}` renders to nothing,", self.message),
                ..self
            },
            None => self,
        }
    }
}

/// The lines around a byte of a text, with a caret below it.
pub(crate) fn excerpt(text: &str, offset: usize) -> String {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count());
    let first = line.saturating_sub(CONTEXT);
    // A long line is shown around the fault only.
    let skipped = if column >= MAX_WIDTH { column - MAX_WIDTH / 2 } else { 0 };
    let mut out = String::new();
    for (index, shown) in text.lines().enumerate().skip(first).take(line - first + CONTEXT + 1) {
        let part: String = shown.chars().skip(skipped).take(MAX_WIDTH).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{:>6} | {part}", index + 1);
        if index == line {
            let _ = writeln!(out, "       | {}^", " ".repeat(column - skipped));
        }
    }
    out
}

fn prefix(location: Option<&Location>) -> String {
    location.map(|location| format!("{location}: ")).unwrap_or_default()
}

fn suffix(excerpt: Option<&str>) -> String {
    excerpt
        .filter(|excerpt| !excerpt.is_empty())
        .map(|excerpt| format!("\n\n{}", excerpt.trim_end()))
        .unwrap_or_default()
}
