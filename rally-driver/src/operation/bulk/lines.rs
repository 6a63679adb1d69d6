//! The lines of a bulk request's body.

use bytes::{Bytes, BytesMut};
use memchr::memchr_iter;

/// Bytes of a body, line feeds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of all lines.
    pub(super) request: u64,
    /// Of the documents only.
    pub(super) documents: u64,
}

/// How large a body is.
pub(super) fn sizes(body: &[u8], has_action_lines: bool) -> Sizes {
    let length = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).len() as u64;
    let (mut sizes, mut lines) = (Sizes::default(), lines(body));
    while let Some(first) = lines.next() {
        let action = if has_action_lines { length(first) } else { 0 };
        let document = match has_action_lines {
            true if has_document(first) => lines.next().map_or(0, length),
            true => 0,
            false => length(first),
        };
        sizes.request += action + document;
        sizes.documents += document;
    }
    sizes
}

/// The body of these documents only, each with its action line. The indices must grow; none if there is no such document.
pub(super) fn pick(body: &[u8], has_action_lines: bool, wanted: &[usize]) -> Option<Bytes> {
    let mut picked = BytesMut::new();
    let mut wanted = wanted.iter().peekable();
    let mut lines = lines(body);
    let mut document = 0;
    while let Some(next) = wanted.peek() {
        let first = lines.next()?;
        let second = if has_action_lines && has_document(first) { lines.next()? } else { &[] };
        if document == **next {
            picked.extend_from_slice(first);
            picked.extend_from_slice(second);
            wanted.next();
        }
        document += 1;
    }
    Some(picked.freeze())
}

/// Whether a document comes after an action line: only a deletion has none.
fn has_document(action: &[u8]) -> bool {
    let inside = action.trim_ascii_start().strip_prefix(b"{").unwrap_or_default();
    !inside.trim_ascii_start().starts_with(b"\"delete\"")
}

/// Lines with their line feeds.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let rest = (!body.ends_with(b"\n") && !body.is_empty()).then_some(body.len());
    let mut start = 0;
    memchr_iter(b'\n', body).map(|end| end + 1).chain(rest).map(move |end| {
        let line = &body[start..end];
        start = end;
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"index\":{}}\n{\"a\":1}\n{\"delete\":{}}\n{\"index\":{}}\n{\"a\":33}\n";

    #[test]
    fn documents_are_picked_with_their_action_lines() {
        assert_eq!(pick(BODY, true, &[0, 2]).unwrap(), &b"{\"index\":{}}\n{\"a\":1}\n{\"index\":{}}\n{\"a\":33}\n"[..]);
        assert_eq!(pick(BODY, true, &[1]).unwrap(), &b"{\"delete\":{}}\n"[..]);
        assert_eq!(pick(BODY, true, &[3]), None);
        let spaced = b"{ \"delete\" : {}}\n{ \"index\": {}}\n{\"a\":1}\n";
        assert_eq!(pick(spaced, true, &[1]).unwrap(), &b"{ \"index\": {}}\n{\"a\":1}\n"[..]);
        assert_eq!(pick(b"1\n2\n3\n", false, &[1, 2]).unwrap(), &b"2\n3\n"[..]);
        assert_eq!(pick(b"", true, &[]).unwrap(), &b""[..]);
    }

    #[test]
    fn sizes_are_those_of_lines_without_line_feeds() {
        let body = b"{\"index\":{}}\n{\"a\":1}\n{\"index\":{}}\n{\"a\":33}\n";
        assert_eq!(sizes(body, true), Sizes { request: 12 + 7 + 12 + 8, documents: 15 });
        assert_eq!(sizes(BODY, true), Sizes { request: 12 + 7 + 13 + 12 + 8, documents: 15 });
        assert_eq!(sizes(b"12\n3", false), Sizes { request: 3, documents: 3 });
        assert_eq!(sizes(b"", false), Sizes::default());
    }
}
