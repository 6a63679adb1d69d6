//! What is always read of an answer: whether documents failed, and how long it took.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::strange;
use crate::RunnerError;

/// What an answer says of all documents together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Whether some documents failed.
    pub(super) errors: bool,
    /// In milliseconds.
    pub(super) took: Option<u64>,
}

impl Summary {
    /// Scans an answer up to where both are known. Mostly they stand before the items, which are not even looked at then.
    pub(super) fn scan(body: &[u8]) -> Result<Self, RunnerError> {
        let mut scan = Scan { rest: body };
        let (mut errors, mut took) = (None, None);
        scan.expect(b'{')?;
        if scan.takes(b'}') {
            return Ok(Self::default());
        }
        while errors.is_none() || took.is_none() {
            let name: std::borrow::Cow<'_, str> = scan.value()?;
            scan.expect(b':')?;
            match &*name {
                "errors" => errors = Some(scan.value()?),
                "took" => took = scan.value::<Option<u64>>()?.or(took),
                _ => drop(scan.value::<IgnoredAny>()?),
            }
            if scan.takes(b'}') {
                break;
            }
            scan.expect(b',')?;
        }
        Ok(Self { errors: errors.unwrap_or(false), took })
    }
}

/// What is left of a JSON text.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn value<T: Deserialize<'a>>(&mut self) -> Result<T, RunnerError> {
        let mut values = Deserializer::from_slice(self.rest).into_iter();
        let value = values.next().ok_or_else(|| strange("it ends too early"))?.map_err(strange)?;
        self.rest = &self.rest[values.byte_offset()..];
        Ok(value)
    }

    /// Whether the next byte that is no space is this one; it is taken then.
    fn takes(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), RunnerError> {
        if self.takes(byte) { Ok(()) } else { Err(strange(format_args!("there is no `{}`", char::from(byte)))) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_are_found_wherever_they_stand() {
        for (text, errors, took) in [
            (r#"{"errors":false,"took":30,"items":[{"index":{"#, false, Some(30)),
            (r#" { "took" : 3 , "ingest_took" : 1, "errors" : true , "items" : [ ] } "#, true, Some(3)),
            (r#"{"items":[{"index":{"errors":true,"took":9}}],"errors":false,"took":1}"#, false, Some(1)),
            (r#"{"took":null,"errors":true}"#, true, None),
            ("{}", false, None),
        ] {
            assert_eq!(Summary::scan(text.as_bytes()).unwrap(), Summary { errors, took }, "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "[]", "{", r#"{"took":3"#, r#"{"took":3 "errors":true}"#, r#"{"errors":1,"took":3}"#, "<html>"]
        {
            let error = Summary::scan(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the answer to a bulk request makes no sense"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Summary::scan(&bytes);
        }

        #[test]
        fn it_finds_what_a_tree_has(errors: bool, took: u64, first in "[a-z]{0,8}", text in ".{0,20}", order in 0_usize..6) {
            let mut pairs = [("errors", json!(errors)), ("took", json!(took)), (&*first, json!([{ "took": text }]))];
            prop_assume!(first != "errors" && first != "took");
            pairs.rotate_left(order % 3);
            if order > 2 {
                pairs.swap(0, 1);
            }
            let answer: serde_json::Map<_, _> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let summary = Summary::scan(&serde_json::to_vec(&answer).unwrap()).unwrap();
            prop_assert_eq!(summary, Summary { errors, took: Some(took) });
        }
    }
}
