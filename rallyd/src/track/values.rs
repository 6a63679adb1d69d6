//! How lists and maps are written on the command line.

use std::io;
use std::path::Path;

use serde_json::{Map, Number, Value};

/// A list or a map on the command line makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseValueError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file or the text is not JSON.
    #[error("`{text}` is not valid JSON")]
    Json {
        /// The file, or the text itself.
        text: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The JSON is something else than what is asked for.
    #[error("`{text}` must be a JSON {expected}")]
    Type {
        /// The file, or the text itself.
        text: String,
        /// `object` or `array`.
        expected: &'static str,
    },
    /// A pair is not of the form `key:value`.
    #[error(
        "`{pair}` must be of the form `key:value`; write the whole as JSON if the value contains a colon or a comma"
    )]
    Pair {
        /// What was given.
        pair: String,
    },
}

/// Reads a list: a file that ends in `.json`, a JSON array, or values with commas in between.
///
/// # Errors
///
/// [`ParseValueError`] if a file or JSON is given and is no array of texts.
pub fn parse_list(text: &str) -> Result<Vec<String>, ParseValueError> {
    let json = if is_file(text) {
        read_json(text)?
    } else if text.trim_start().starts_with('[') {
        parse_json(text, text)?
    } else if text.trim().is_empty() {
        return Ok(Vec::new());
    } else {
        return Ok(text.split(',').map(|part| part.trim().to_owned()).collect());
    };
    let expected = || ParseValueError::Type { text: text.to_owned(), expected: "array of texts" };
    let elements = json.as_array().ok_or_else(expected)?;
    elements.iter().map(|element| element.as_str().map(str::to_owned).ok_or_else(expected)).collect()
}

/// Reads a map: a file that ends in `.json`, a JSON object, or pairs `key:value` with commas in between.
///
/// A value of a pair is a text if it begins with a single quote, which is left out together with the last character;
/// otherwise it is a number, `true`, `false`, `none` or, failing all of these, a text.
///
/// # Errors
///
/// [`ParseValueError`] says which part makes no sense.
pub fn parse_map(text: &str) -> Result<Map<String, Value>, ParseValueError> {
    let json = if is_file(text) {
        read_json(text)?
    } else {
        match serde_json::from_str(text) {
            Ok(json) => json,
            Err(source) if text.trim_start().starts_with('{') => {
                return Err(ParseValueError::Json { text: text.to_owned(), source });
            }
            Err(_) => return pairs(text),
        }
    };
    match json {
        Value::Object(map) => Ok(map),
        _ => Err(ParseValueError::Type { text: text.to_owned(), expected: "object" }),
    }
}

fn is_file(text: &str) -> bool {
    text.ends_with(".json")
}

fn read_json(path: &str) -> Result<Value, ParseValueError> {
    let read = || match path.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => std::fs::read_to_string(Path::new(&home).join(rest)),
        None => std::fs::read_to_string(path),
    };
    let text = read().map_err(|source| ParseValueError::Read { path: path.to_owned(), source })?;
    parse_json(&text, path)
}

fn parse_json(text: &str, name: &str) -> Result<Value, ParseValueError> {
    serde_json::from_str(text).map_err(|source| ParseValueError::Json { text: name.to_owned(), source })
}

fn pairs(text: &str) -> Result<Map<String, Value>, ParseValueError> {
    let mut map = Map::new();
    for pair in text.split(',').filter(|_| !text.trim().is_empty()) {
        match pair.split(':').collect::<Vec<_>>().as_slice() {
            [key, value] => map.insert(key.trim().to_owned(), scalar(value.trim())),
            _ => return Err(ParseValueError::Pair { pair: pair.trim().to_owned() }),
        };
    }
    Ok(map)
}

fn scalar(text: &str) -> Value {
    if let Some(quoted) = text.strip_prefix('\'') {
        let mut inner = quoted.chars();
        inner.next_back();
        return inner.as_str().into();
    }
    if let Ok(integer) = text.parse::<i64>() {
        return integer.into();
    }
    if let Some(number) = text.parse::<f64>().ok().and_then(Number::from_f64) {
        return number.into();
    }
    match text.to_ascii_lowercase().as_str() {
        "true" => true.into(),
        "false" => false.into(),
        "none" => Value::Null,
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_map_is_json_or_pairs_whose_values_are_guessed() {
        for (text, expected) in [
            ("", json!({})),
            (
                "a:1, b:-2.5,c:true,d:FALSE,e:none,f:text,g:'1',h:1e3",
                json!({
                    "a": 1, "b": -2.5, "c": true, "d": false, "e": null, "f": "text", "g": "1", "h": 1000.0
                }),
            ),
            ("{\"a\": {\"b\": [1]}}", json!({"a": {"b": [1]}})),
            ("a:nan", json!({"a": "nan"})),
            ("a:'", json!({"a": ""})),
        ] {
            assert_eq!(Value::from(parse_map(text).unwrap()), expected, "{text}");
        }
        for (text, expected) in [
            (
                "a",
                "`a` must be of the form `key:value`; write the whole as JSON if the value contains a colon or a comma",
            ),
            (
                "a:b:c",
                "`a:b:c` must be of the form `key:value`; write the whole as JSON if the value contains a colon or a comma",
            ),
            ("[1]", "`[1]` must be a JSON object"),
            ("{a", "`{a` is not valid JSON"),
            ("/nowhere/x.json", "cannot read `/nowhere/x.json`"),
        ] {
            assert_eq!(parse_map(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_list_is_json_or_has_commas() {
        for (text, expected) in
            [("", vec![]), ("a", vec!["a"]), (" a , type:b ", vec!["a", "type:b"]), ("[\"a,b\"]", vec!["a,b"])]
        {
            assert_eq!(parse_list(text).unwrap(), expected);
        }
        assert!(parse_list("[1]").is_err());
    }

    #[test]
    fn a_file_keeps_the_order_of_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("params.json");
        std::fs::write(&path, "{\"z\": 1, \"a\": 2}").unwrap();
        let map = parse_map(path.to_str().unwrap()).unwrap();
        assert_eq!(map.keys().collect::<Vec<_>>(), ["z", "a"]);
    }
}
