//! Template text that remembers which file, line and column each of its bytes came from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in a file of the track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file, relative to the folder of the track.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Location {
    /// The place that is reached after reading `text` from here on.
    pub(crate) fn after(&self, text: &str) -> Self {
        let lines = text.bytes().filter(|byte| *byte == b'\n').count();
        let column = match text.rfind('\n') {
            Some(end) => text[end + 1..].chars().count() + 1,
            None => self.column + text.chars().count(),
        };
        Self { file: self.file.clone(), line: self.line + lines, column }
    }
}

/// A text put together from pieces of files.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceText {
    text: String,
    pieces: Vec<Piece>,
}

/// The text from `start` to the next piece stands in a file, from `location` on.
#[derive(Clone, Debug)]
struct Piece {
    start: usize,
    location: Location,
}

impl SourceText {
    /// The whole text of a file.
    pub(crate) fn of_file(file: &str, text: String) -> Self {
        let location = Location { file: file.into(), line: 1, column: 1 };
        Self { text, pieces: vec![Piece { start: 0, location }] }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the byte at `offset` came from.
    pub(crate) fn locate(&self, offset: usize) -> Location {
        let index = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        let Some(piece) = self.pieces.get(index) else {
            return Location { file: "".into(), line: 1, column: 1 };
        };
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        piece.location.after(&self.text[piece.start.min(end)..end])
    }

    /// Appends a part of another text, with the places of that text. `location` is where its first byte came from.
    pub(crate) fn append(&mut self, other: &Self, range: Range<usize>, location: Location) {
        if range.is_empty() {
            return;
        }
        self.pieces.push(Piece { start: self.text.len(), location });
        let first = other.pieces.partition_point(|piece| piece.start <= range.start);
        for piece in other.pieces[first..].iter().take_while(|piece| piece.start < range.end) {
            let start = self.text.len() + piece.start - range.start;
            self.pieces.push(Piece { start, location: piece.location.clone() });
        }
        self.text.push_str(&other.text[range]);
    }

    /// Appends text that stands in no file and is attributed to `location`.
    pub(crate) fn append_generated(&mut self, text: &str, location: Location) {
        self.pieces.push(Piece { start: self.text.len(), location });
        self.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_knows_its_file_line_and_column() {
        let a = SourceText::of_file("a", "one\ntwö x\n".to_owned());
        let b = SourceText::of_file("b", "three".to_owned());
        let mut text = SourceText::default();
        text.append(&a, 0..6, a.locate(0));
        text.append(&b, 0..5, b.locate(0));
        text.append_generated(",", a.locate(6));
        text.append(&a, 6..a.as_str().len(), a.locate(6));
        assert_eq!(text.as_str(), "one\ntwthree,ö x\n");
        for (offset, expected) in
            [(0, "a:1:1"), (4, "a:2:1"), (6, "b:1:1"), (9, "b:1:4"), (11, "a:2:3"), (12, "a:2:3"), (15, "a:2:5")]
        {
            assert_eq!(text.locate(offset).to_string(), expected, "offset {offset}");
        }
        assert_eq!(text.locate(usize::MAX).to_string(), "a:3:1");
    }

    #[test]
    fn a_part_of_a_composed_text_keeps_the_places_of_its_pieces() {
        let mut inner = SourceText::of_file("a", "aaa\n".to_owned());
        let b = SourceText::of_file("b", "bbb\nccc".to_owned());
        inner.append(&b, 0..7, b.locate(0));
        let mut outer = SourceText::default();
        outer.append(&inner, 2..9, inner.locate(2));
        assert_eq!(outer.as_str(), "a\nbbb\nc");
        assert_eq!(outer.locate(0).to_string(), "a:1:3");
        assert_eq!(outer.locate(3).to_string(), "b:1:2");
        assert_eq!(outer.locate(6).to_string(), "b:2:1");
    }
}
