//! Makes requests of parameters: paths, queries, and what most operations understand.

use std::fmt::Write as _;

use rally_core::track::JsonObject;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::RunnerError;
use crate::client::{Body, Request};
use crate::parameters::Parameters;

/// A request with the parameters that most operations understand: `headers`, `opaque-id`, `request-timeout` and `ignore`.
/// What is in `request_params` takes the place of what the operation itself asks for in `query`, unless it is null.
pub(super) fn request(
    method: &'static str,
    path: &str,
    query: &[(&str, Value)],
    given: &Parameters<'_>,
    request_params: Option<&JsonObject>,
) -> Result<Request, RunnerError> {
    let mut request = Request::new(method, path);
    let mut ignore = given.get("ignore");
    let request_params = || request_params.into_iter().flatten().filter(|(_, value)| !value.is_null());
    let own = query.iter().filter(|(name, _)| request_params().all(|(given, _)| given != name));
    let mut pairs: Vec<(&str, &Value)> = own.map(|(name, value)| (*name, value)).collect();
    for (name, value) in request_params() {
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
    let headers = given.object("headers")?.into_iter().flatten().filter(|(_, value)| !value.is_null());
    request.headers.extend(headers.map(|(name, value)| (name.clone(), query_text(value))));
    if let Some(id) = given.get("opaque-id").map(query_text).filter(|id| !id.is_empty()) {
        request.headers.push(("x-opaque-id".to_owned(), id));
    }
    // None at all would be no request.
    request.timeout = given.seconds_if_any("request-timeout")?.filter(|timeout| !timeout.is_zero());
    if let Some(ignore) = ignore {
        let statuses = statuses(ignore);
        request.ignore = statuses.ok_or_else(|| given.wrong("ignore", "an HTTP status or a list of them", ignore))?;
    }
    Ok(request)
}

/// A body that is JSON, or already text. Of a text, several lines are lines of JSON if the first of them is JSON by itself.
pub(super) fn body(value: Option<&Value>) -> Body {
    let is_whole = |line: &str| serde_json::from_str::<IgnoredAny>(line).is_ok();
    match value {
        None | Some(Value::Null) => Body::Empty,
        Some(Value::String(text)) => match text.trim().split_once('\n') {
            Some((first, _)) if is_whole(first) => Body::Ndjson(text.clone().into()),
            _ => Body::Json(text.clone().into()),
        },
        Some(value) => Body::Json(value.to_string().into()),
    }
}

/// One HTTP status or several, as numbers or texts.
fn statuses(value: &Value) -> Option<Vec<u16>> {
    match value {
        Value::Array(values) => values.iter().map(statuses).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        Value::String(text) => text.split(',').map(|status| status.trim().parse().ok()).collect(),
        value => Some(vec![value.as_u64()?.try_into().ok()?]),
    }
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
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn make(params: &Value, request_params: Value) -> Result<Request, RunnerError> {
        let given = Parameters::new("o", params.as_object().unwrap());
        let query = [("size", json!(5)), ("from", json!(0))];
        request("GET", "/logs-*/_search", &query, &given, request_params.as_object())
    }

    #[test]
    fn what_most_operations_understand_is_in_the_request() {
        let request_params = json!({
            "ignore": "404, 409", "preference": "a b/c", "expand": ["open", "closed"], "q": true, "none": null, "from": 3,
            "size": null,
        });
        let params =
            json!({ "headers": { "x-a": 1, "x-b": null }, "opaque-id": "me", "request-timeout": "1.5", "ignore": 400 });
        let request = make(&params, request_params).unwrap();
        assert_eq!(request.path, "/logs-*/_search?size=5&preference=a%20b%2Fc&expand=open,closed&q=true&from=3");
        assert_eq!(request.headers, [("x-a".to_owned(), "1".to_owned()), ("x-opaque-id".to_owned(), "me".to_owned())]);
        assert_eq!((request.timeout, request.ignore), (Some(Duration::from_millis(1500)), vec![404, 409]));
        let request = make(&json!({ "ignore": [400, "404"] }), json!({ "ignore": null })).unwrap();
        assert_eq!((request.path.as_str(), request.ignore), ("/logs-*/_search?size=5&from=0", vec![400, 404]));
        let request = make(&json!({ "request-timeout": 0, "opaque-id": "" }), Value::Null).unwrap();
        assert_eq!((request.timeout, request.headers.len()), (None, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (params, problem) in [
            (json!({ "headers": ["x-a"] }), "`headers` must be an object, not [\"x-a\"]"),
            (
                json!({ "request-timeout": "soon" }),
                "`request-timeout` must be a number of seconds, at least 0, not \"soon\"",
            ),
            (json!({ "ignore": [404, "x"] }), "`ignore` must be an HTTP status or a list of them, not [404,\"x\"]"),
        ] {
            let error = make(&params, Value::Null).unwrap_err().to_string();
            assert!(error.ends_with(problem), "{error}");
        }
    }

    #[test]
    fn texts_of_several_lines_are_lines_of_json_unless_they_are_one_value() {
        for (text, is_lines) in [
            ("{}\n{\"size\":1}\n", true),
            ("{}\r\n{}", true),
            ("{\n\"size\": 1\n}\n", false),
            ("{\"size\":1}\n", false),
            ("", false),
        ] {
            let body = body(Some(&json!(text)));
            let expected = if is_lines { Body::Ndjson(text.into()) } else { Body::Json(text.into()) };
            assert_eq!(body, expected, "{text:?}");
        }
    }
}
