//! Reads a few values of a JSON text and passes over all others, without building a tree of it.
//!
//! What is passed over is not checked: only its brackets and texts are followed. Nothing here recurses with the depth of
//! the text.

use std::borrow::Cow;
use std::ops::ControlFlow;

use memchr::{memchr, memchr2};
use serde::de::DeserializeOwned;

/// A text is not the JSON that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON at byte {at}")]
pub(super) struct Malformed {
    at: usize,
}

/// Whether a visitor wants to see more.
pub(super) type Flow = Result<ControlFlow<()>, Malformed>;

/// Goes on with the next member or element.
pub(super) const NEXT: Flow = Ok(ControlFlow::Continue(()));

/// Ends reading altogether.
pub(super) const STOP: Flow = Ok(ControlFlow::Break(()));

/// A position in a JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Calls `visit` with the key of each member of the object that stands here, and the scanner at its value. A value
    /// that the visitor leaves alone is passed over, and so is anything that is no object.
    pub(super) fn members(&mut self, mut visit: impl FnMut(&[u8], &mut Self) -> Flow) -> Flow {
        self.each(b'{', b'}', |scanner| {
            let key = scanner.key()?;
            if scanner.peek()? != b':' {
                return Err(scanner.malformed());
            }
            scanner.at += 1;
            scanner.visited(|scanner| visit(&key, scanner))
        })
    }

    /// Calls `visit` with the scanner at each element of the array that stands here. An element that the visitor leaves
    /// alone is passed over, and so is anything that is no array.
    pub(super) fn elements(&mut self, mut visit: impl FnMut(&mut Self) -> Flow) -> Flow {
        self.each(b'[', b']', |scanner| scanner.visited(&mut visit))
    }

    /// Passes over the value that stands here and returns its text.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => drop(self.string()?),
            b'{' | b'[' => self.skip_container()?,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &self.text[start..];
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
            _ => return Err(self.malformed()),
        }
        Ok(&self.text[start..self.at])
    }

    /// The value that stands here, parsed.
    pub(super) fn parsed<T: DeserializeOwned>(&mut self) -> Result<T, Malformed> {
        self.peek()?;
        let at = self.at;
        serde_json::from_slice(self.value()?).map_err(|_| Malformed { at })
    }

    /// Goes to the value at a dotted path within the object that stands here. False if there is none. Keys may have dots
    /// themselves.
    pub(super) fn seek(&mut self, path: &str) -> Result<bool, Malformed> {
        self.seek_bytes(path.as_bytes())
    }

    fn seek_bytes(&mut self, path: &[u8]) -> Result<bool, Malformed> {
        let flow = self.members(|key, scanner| {
            let is_found = match path.strip_prefix(key) {
                Some([]) => true,
                Some([b'.', rest @ ..]) => scanner.seek_bytes(rest)?,
                _ => false,
            };
            if is_found { STOP } else { NEXT }
        });
        flow.map(|flow| flow.is_break())
    }

    /// Whether the array that stands here has no elements.
    pub(super) fn is_empty_array(&self) -> bool {
        let mut ahead = Self { text: self.text, at: self.at };
        ahead.peek() == Ok(b'[') && {
            ahead.at += 1;
            ahead.peek() == Ok(b']')
        }
    }

    /// Calls `item` at the start of everything that stands between commas.
    fn each(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Flow) -> Flow {
        if self.peek()? != open {
            self.value()?;
            return NEXT;
        }
        self.at += 1;
        if self.peek()? == close {
            self.at += 1;
            return NEXT;
        }
        loop {
            if item(self)?.is_break() {
                return STOP;
            }
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == close => {
                    self.at += 1;
                    return NEXT;
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    /// Shows a visitor the value that stands here, and passes over it if the visitor did not read it.
    fn visited(&mut self, visit: impl FnOnce(&mut Self) -> Flow) -> Flow {
        self.peek()?;
        let before = self.at;
        let flow = visit(self)?;
        if flow.is_continue() && self.at == before {
            self.value()?;
        }
        Ok(flow)
    }

    fn key(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        if self.peek()? != b'"' {
            return Err(self.malformed());
        }
        let start = self.at;
        let key = self.string()?;
        if memchr(b'\\', key).is_none() {
            return Ok(Cow::Borrowed(key));
        }
        self.at = start;
        self.parsed::<String>().map(|key| Cow::Owned(key.into_bytes()))
    }

    /// Passes over the string that begins here and returns what is between its quotes.
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            match memchr2(b'"', b'\\', rest) {
                Some(length) if rest[length] == b'"' => {
                    self.at = at + length + 1;
                    return Ok(&self.text[start..at + length]);
                }
                // Whatever is escaped does not end the string.
                Some(length) => at += length + 2,
                None => return Err(self.malformed()),
            }
        }
    }

    fn skip_container(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.malformed())
    }

    /// The first byte of what stands here, behind blanks.
    fn peek(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(self.malformed()),
            }
        }
    }

    fn malformed(&self) -> Malformed {
        Malformed { at: self.at.min(self.text.len()) }
    }
}

/// The value at a dotted path, if there is one. See [`Scanner::seek`].
pub(super) fn find<T: DeserializeOwned>(text: &[u8], path: &str) -> Result<Option<T>, Malformed> {
    let mut scanner = Scanner::new(text);
    if scanner.seek(path)? { scanner.parsed().map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn values_are_found_at_their_path_and_nowhere_else() {
        let text = json!({
            "first": { "id": "wrong", "deeper": [{ "id": "wrong" }] },
            "te\"xt": "}]{[\\\"", "id": "right", "dotted.key": { "of": { "all": 5 } }, "dotted": { "key": { "other": null } },
        });
        let text = serde_json::to_vec_pretty(&text).unwrap();
        for (path, expected) in [
            ("id", Some(json!("right"))),
            ("first.id", Some(json!("wrong"))),
            ("first.deeper.id", None),
            ("te\"xt", Some(json!("}]{[\\\""))),
            ("dotted.key.of.all", Some(json!(5))),
            ("dotted.key.other", Some(Value::Null)),
            ("dotted.key.other.more", None),
            ("missing", None),
            ("", None),
        ] {
            assert_eq!(find::<Value>(&text, path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn keys_may_be_written_with_escapes() {
        assert_eq!(find(br#"{"\u0069d":1}"#, "id").unwrap(), Some(1));
    }

    #[test]
    fn what_ends_too_early_or_is_no_json_is_malformed() {
        for text in
            ["", "{", "{\"a\"", "{\"a\":", "{\"a\":[1,", "{\"a\":\"\\", "{a:1}", "{\"a\" 1}", "{\"a\":}", "{\"x\":1 2}"]
        {
            assert!(find::<Value>(text.as_bytes(), "a.b").is_err(), "{text}");
        }
        assert_eq!(find::<Value>(b"[1,2]", "a"), Ok(None));
    }

    #[test]
    fn depth_costs_no_stack() {
        let text = format!("{{\"deep\":{}{},\"a\":1}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(find(text.as_bytes(), "a"), Ok(Some(1)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[a-c\\\\\"{}\\[\\]é]{0,2}", inner), 0..6)
                    .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// All values within objects, by their path.
    fn paths(value: &Value, path: &[&str], found: &mut Vec<(Vec<String>, Value)>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = [path, &[key.as_str()]].concat();
            found.push((path.iter().map(|key| (*key).to_owned()).collect(), value.clone()));
            paths(value, &path, found);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_tree_holds_is_found(value in any_value(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut expected = Vec::new();
            paths(&value, &[], &mut expected);
            for (path, expected) in expected {
                prop_assert_eq!(find::<Value>(&text, &path.join(".")), Ok(Some(expected)));
            }
            prop_assert_eq!(Scanner::new(&text).value(), Ok(text.as_slice()));
            let mut elements = Vec::new();
            let _ = Scanner::new(&text).elements(|scanner| {
                elements.push(scanner.parsed::<Value>()?);
                NEXT
            }).unwrap();
            prop_assert_eq!(Value::from(elements), if value.is_array() { value } else { json!([]) });
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<Vec<u8>>(), noise in "[\\[\\]{}\":,\\\\ a1]{0,40}") {
            let _ = find::<Value>(&text, "a.a");
            let _ = find::<Value>(noise.as_bytes(), "a.a");
            let _ = Scanner::new(noise.as_bytes()).value();
        }
    }
}
