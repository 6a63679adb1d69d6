//! Methods of Python's texts, lists and dicts, as far as the engine does not know them.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::{Dict, pairs_of};

/// No method pads a text to more characters than this.
const MAX_WIDTH: usize = 1 << 16;

/// Calls a method that the engine knows nothing of.
pub(crate) fn unknown_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(text, method, args)?
    {
        return Ok(result);
    }
    match (value.kind(), method) {
        (ValueKind::Map, "copy") => {
            let () = from_args(args)?;
            Ok(Dict::from_entries(pairs_of(value)?).into())
        }
        (ValueKind::Seq, "copy") => {
            let () = from_args(args)?;
            Ok(value.try_iter()?.collect())
        }
        (ValueKind::Seq, "index") => {
            let (wanted,): (Value,) = from_args(args)?;
            value
                .try_iter()?
                .position(|item| item == wanted)
                .map(Value::from)
                .ok_or_else(|| invalid(format!("{wanted:?} is not in the list")))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let all = |test: fn(char) -> bool| {
        let () = from_args(args)?;
        Ok(Some(Value::from(!text.is_empty() && text.chars().all(test))))
    };
    let result = match method {
        "isdigit" | "isdecimal" => return all(|c| c.is_ascii_digit()),
        "isnumeric" => return all(char::is_numeric),
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = if text.starts_with(['+', '-']) { text.split_at(1) } else { ("", text) };
            format!("{sign}{}{digits}", "0".repeat(missing(text, width)?))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = missing(text, width)?;
            let left = match method {
                "ljust" => 0,
                "rjust" => missing,
                // The odd character is to the left if the width is odd.
                _ => missing / 2 + (missing & width & 1),
            };
            let pad = |count: usize| String::from_iter(std::iter::repeat_n(fill.unwrap_or(' '), count));
            format!("{}{text}{}", pad(left), pad(missing - left))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).to_owned()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).to_owned()
        }
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(args)?;
            let found = if method == "index" { text.find(wanted) } else { text.rfind(wanted) };
            let at = found.ok_or_else(|| invalid(format!("{wanted:?} is not in the text")))?;
            return Ok(Some(Value::from(text[..at].chars().count())));
        }
        "casefold" => {
            let () = from_args(args)?;
            text.to_lowercase().replace('ß', "ss")
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            text.chars().map(swap).collect()
        }
        "title" => {
            let () = from_args(args)?;
            title(text)
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let parts = if method == "partition" {
                text.split_once(separator).map_or([text, "", ""], |(before, after)| [before, separator, after])
            } else {
                text.rsplit_once(separator).map_or(["", "", text], |(before, after)| [before, separator, after])
            };
            return Ok(Some(Value::from_object(Tuple::from(parts.map(Value::from)))));
        }
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            return Ok(Some(split_from_the_end(text, separator, limit)?.into_iter().map(Value::from).collect()));
        }
        _ => return Ok(None),
    };
    Ok(Some(result.into()))
}

/// Characters that a text lacks to be as wide as this.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    if width > MAX_WIDTH {
        return Err(invalid(format!("a text cannot be padded to more than {MAX_WIDTH} characters")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

/// Capital letters at the beginning of each run of letters, small ones within.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for character in text.chars() {
        if within {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        within = character.is_alphabetic();
    }
    out
}

/// At most `limit` splits, beginning at the end. Without a separator, at runs of blanks.
fn split_from_the_end<'a>(text: &'a str, separator: Option<&str>, limit: usize) -> Result<Vec<&'a str>, Error> {
    let mut parts = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end() } else { text };
    while parts.len() < limit {
        let cut = match separator {
            Some("") => return Err(invalid("empty separator")),
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace).map(|(before, last)| (before.trim_end(), last)),
        };
        let Some((before, last)) = cut else { break };
        parts.push(last);
        rest = before;
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest);
    }
    parts.reverse();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each expectation was checked against Python.
    #[test]
    fn texts_have_the_methods_of_python() {
        for (text, method, args, expected) in [
            ("-5", "zfill", vec![Value::from(4)], "'-005'"),
            ("ab", "center", vec![Value::from(5), Value::from("*")], "'**ab*'"),
            ("ab", "ljust", vec![Value::from(4)], "'ab  '"),
            ("ab", "rjust", vec![Value::from(1)], "'ab'"),
            ("logs-x", "removeprefix", vec![Value::from("logs-")], "'x'"),
            ("logs-x", "removesuffix", vec![Value::from("y")], "'logs-x'"),
            ("it's Ünder_way", "title", vec![], "\"It'S Ünder_Way\""),
            ("aBc", "swapcase", vec![], "'AbC'"),
            ("a.b.c", "partition", vec![Value::from(".")], "('a', '.', 'b.c')"),
            ("a.b.c", "rpartition", vec![Value::from(".")], "('a.b', '.', 'c')"),
            ("a.b.c", "rsplit", vec![Value::from("."), Value::from(1)], "['a.b', 'c']"),
            (" a  b ", "rsplit", vec![], "['a', 'b']"),
            (" a  b c ", "rsplit", vec![Value::from(()), Value::from(1)], "[' a  b', 'c']"),
            ("üa.a", "index", vec![Value::from("a")], "1"),
            ("üa.a", "rindex", vec![Value::from("a")], "3"),
            ("12", "isdigit", vec![], "True"),
            ("", "isdigit", vec![], "False"),
        ] {
            let found = text_method(text, method, &args).unwrap().unwrap();
            assert_eq!(format!("{found:?}"), expected, "{text:?}.{method}");
        }
        assert!(text_method("x", "zfill", &[Value::from(1_u64 << 40)]).is_err());
    }
}
