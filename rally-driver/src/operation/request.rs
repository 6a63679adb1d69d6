//! Makes requests of parameters: paths, queries, and what most operations understand.

use std::fmt::Write as _;
use std::time::Duration;

use rally_core::track::JsonObject;
use serde_json::Value;

use crate::client::{Body, Request};

/// A request with the parameters that most operations understand: `request-params`, `headers`, `opaque-id`,
/// `request-timeout` and `ignore`. What is in `request-params` takes the place of what the operation itself asks for.
pub(super) fn request(method: &'static str, path: &str, query: &[(&str, Value)], params: &JsonObject) -> Request {
    make(method, path, query, params, params.get("request-params").and_then(Value::as_object))
}

/// A request beside the one that an operation is about: without `request-params`, which are not meant for it.
pub(super) fn aside(method: &'static str, path: &str, query: &[(&str, Value)], params: &JsonObject) -> Request {
    make(method, path, query, params, None)
}

fn make(
    method: &'static str,
    path: &str,
    query: &[(&str, Value)],
    params: &JsonObject,
    given: Option<&JsonObject>,
) -> Request {
    let mut request = Request::new(method, path);
    let mut ignore = params.get("ignore");
    let is_given = |name: &str| given.is_some_and(|given| given.contains_key(name));
    let own = query.iter().filter(|(name, _)| !is_given(name));
    let mut pairs: Vec<(&str, &Value)> = own.map(|(name, value)| (*name, value)).collect();
    for (name, value) in given.into_iter().flatten() {
        if name == "ignore" {
            ignore = Some(value);
        } else {
            pairs.push((name, value));
        }
    }
    for (index, (name, value)) in pairs.into_iter().filter(|(_, value)| !value.is_null()).enumerate() {
        request.path.push(if index == 0 && !path.contains('?') { '?' } else { '&' });
        request.path.push_str(&encode(name));
        request.path.push('=');
        request.path.push_str(&encode(&query_text(value)));
    }
    let headers = params.get("headers").and_then(Value::as_object);
    request.headers.extend(headers.into_iter().flatten().map(|(name, value)| (name.clone(), query_text(value))));
    if let Some(id) = params.get("opaque-id") {
        request.headers.push(("x-opaque-id".to_owned(), query_text(id)));
    }
    request.timeout = params.get("request-timeout").and_then(seconds);
    request.ignore = match ignore {
        Some(Value::Array(codes)) => codes.iter().filter_map(status).collect(),
        Some(code) => status(code).into_iter().collect(),
        None => Vec::new(),
    };
    request
}

/// A body that is JSON, or already text as it is in requests with several lines.
pub(super) fn body(value: Option<&Value>) -> Body {
    match value {
        None | Some(Value::Null) => Body::Empty,
        Some(Value::String(text)) => Body::Ndjson(text.clone().into()),
        Some(value) => Body::Json(value.to_string().into()),
    }
}

/// Seconds as a number or a text.
pub(super) fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn status(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|code| code.try_into().ok()).or_else(|| value.as_str()?.trim().parse().ok())
}

/// A value as it stands in a query: lists joined by commas, truth in lower case.
pub(super) fn query_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(query_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Percent-encodes everything but letters, digits and `-._~*,`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'*' | b',' => {
                encoded.push(byte as char)
            }
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_most_operations_understand_is_in_the_request() {
        let params = json!({
            "request-params": { "ignore": "404", "preference": "a b/c", "expand": ["open", "closed"], "q": true, "none": null, "from": 3 },
            "headers": { "x-a": 1 }, "opaque-id": "me", "request-timeout": 1.5,
        });
        let request =
            request("GET", "/logs-*/_search", &[("size", json!(5)), ("from", json!(0))], params.as_object().unwrap());
        assert_eq!(request.path, "/logs-*/_search?size=5&preference=a%20b%2Fc&expand=open,closed&q=true&from=3");
        assert_eq!(request.headers, [("x-a".to_owned(), "1".to_owned()), ("x-opaque-id".to_owned(), "me".to_owned())]);
        assert_eq!((request.timeout, request.ignore), (Some(Duration::from_millis(1500)), vec![404]));
    }
}
