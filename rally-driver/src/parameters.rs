//! The parameters of an operation, read with care: whatever makes no sense is named with the operation.

use std::time::Duration;

use rally_core::track::{JsonObject, Task};
use serde_json::Value;

use crate::RunnerError;

/// Parameters by name. Truth and numbers may also come as texts, since templates easily make texts of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters<'a> {
    operation: &'a str,
    values: &'a JsonObject,
}

impl<'a> Parameters<'a> {
    /// What a parameter source gave to the operation of this name.
    pub(crate) fn new(operation: &'a str, values: &'a JsonObject) -> Self {
        Self { operation, values }
    }

    /// The own parameters of a task's operation.
    pub(crate) fn of(task: &'a Task) -> Self {
        Self::new(&task.operation.name, &task.operation.params)
    }

    /// A parameter; none if it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// A parameter that must be there.
    pub(crate) fn wanted(&self, key: &str) -> Result<&'a Value, RunnerError> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    /// A parameter that must be there, if only as null.
    pub(crate) fn wanted_or_null(&self, key: &str) -> Result<&'a Value, RunnerError> {
        self.values.get(key).ok_or_else(|| self.missing(key))
    }

    /// A parameter that is true or false.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, RunnerError> {
        self.read(key, default, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        })
    }

    /// A number of seconds that is not negative.
    pub(crate) fn seconds(&self, key: &str, default: Duration) -> Result<Duration, RunnerError> {
        Ok(self.seconds_if_any(key)?.unwrap_or(default))
    }

    /// A number of seconds that is not negative, if there is one.
    pub(crate) fn seconds_if_any(&self, key: &str) -> Result<Option<Duration>, RunnerError> {
        self.read(key, None, "a number of seconds, at least 0", |value| {
            let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
            Duration::try_from_secs_f64(seconds).ok().map(Some)
        })
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self, key: &str, default: u64) -> Result<u64, RunnerError> {
        self.read(key, default, "a whole number, at least 0", whole)
    }

    /// A whole number above 0, if there is one.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<u64>, RunnerError> {
        self.read(key, None, "a whole number above 0", |value| Some(whole(value).filter(|number| *number > 0)?.into()))
    }

    /// A text, if there is one.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, RunnerError> {
        self.read(key, None, "a text", |value| Some(Some(value.as_str()?)))
    }

    /// A text that must be there.
    pub(crate) fn wanted_text(&self, key: &str) -> Result<&'a str, RunnerError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// An object, if there is one.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&'a JsonObject>, RunnerError> {
        self.read(key, None, "an object", |value| Some(Some(value.as_object()?)))
    }

    /// One name or several, if there are any: an empty text or list is as good as none.
    pub(crate) fn names(&self, key: &str) -> Result<Option<Vec<String>>, RunnerError> {
        let names = self.read(key, Vec::new(), "a name or a list of names", |value| match value {
            Value::String(name) => Some(vec![name.clone()]),
            Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
            _ => None,
        })?;
        Ok(names.iter().any(|name| !name.is_empty()).then_some(names))
    }

    /// The elements of a list that must be there.
    pub(crate) fn list(&self, key: &str) -> Result<&'a [Value], RunnerError> {
        let value = self.wanted(key)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "a list", value))
    }

    /// Reads a parameter in some way, and says what would be right if that is not possible.
    fn read<T>(
        &self,
        key: &str,
        default: T,
        right: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, RunnerError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => read(value).ok_or_else(|| self.wrong(key, right, value)),
        }
    }

    /// Says that a parameter makes no sense, and what would.
    pub(crate) fn wrong(&self, key: &str, right: &str, found: &Value) -> RunnerError {
        self.invalid(format!("`{key}` must be {right}, not {found}"))
    }

    /// Says that something about the parameters makes no sense.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> RunnerError {
        RunnerError::InvalidParameter { operation: self.operation.to_owned(), problem: problem.into() }
    }

    /// Says that a parameter must be there.
    pub(crate) fn missing(&self, parameter: &str) -> RunnerError {
        RunnerError::MissingParameter { operation: self.operation.to_owned(), parameter: parameter.to_owned() }
    }
}

/// A whole number, also one with a fraction of zero, as templates make it where they divide.
fn whole(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..EXACT).contains(number));
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).or_else(|| fraction().map(|number| number as u64))
}

/// Every whole number below this one is exact as a floating-point number.
const EXACT: f64 = (1_u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn truth_and_numbers_may_be_texts_and_all_else_is_named() {
        let values = json!({
            "yes": "True", "no": false, "null": null, "one": 1, "few": "3", "zero": 0, "half": "0.5", "list": ["a"],
            "mixed": ["a", 1], "word": "many", "float": 2500.0, "part": 2500.5, "empty": "", "nothing": [], "negative": -1.0,
        });
        let given = Parameters::new("o", values.as_object().unwrap());
        assert_eq!((given.flag("yes", false), given.flag("no", true)), (Ok(true), Ok(false)));
        assert_eq!((given.flag("null", true), given.flag("absent", false)), (Ok(true), Ok(false)));
        assert_eq!((given.count("few", 0), given.count("zero", 1)), (Ok(3), Ok(0)));
        assert_eq!((given.positive("few"), given.positive("absent")), (Ok(Some(3)), Ok(None)));
        assert_eq!((given.positive("float"), given.count("float", 0)), (Ok(Some(2_500)), Ok(2_500)));
        assert_eq!((given.names("empty"), given.names("nothing")), (Ok(None), Ok(None)));
        assert_eq!(given.seconds("half", Duration::ZERO), Ok(Duration::from_millis(500)));
        assert_eq!(given.names("list"), Ok(Some(vec!["a".to_owned()])));
        let problem = |result: Result<(), RunnerError>| result.unwrap_err().to_string();
        for (found, expected) in [
            (given.flag("one", false).map(drop), "`one` must be true or false, not 1"),
            (given.count("half", 0).map(drop), "`half` must be a whole number, at least 0, not \"0.5\""),
            (given.count("part", 0).map(drop), "`part` must be a whole number, at least 0, not 2500.5"),
            (given.count("negative", 0).map(drop), "`negative` must be a whole number, at least 0, not -1.0"),
            (given.positive("zero").map(drop), "`zero` must be a whole number above 0, not 0"),
            (given.seconds_if_any("word").map(drop), "`word` must be a number of seconds, at least 0, not \"many\""),
            (given.names("mixed").map(drop), "`mixed` must be a name or a list of names, not [\"a\",1]"),
            (given.text("one").map(drop), "`one` must be a text, not 1"),
            (given.object("word").map(drop), "`word` must be an object, not \"many\""),
            (given.list("word").map(drop), "`word` must be a list, not \"many\""),
        ] {
            assert_eq!(problem(found), format!("operation `o`: {expected}"));
        }
        assert_eq!(problem(given.wanted("null").map(drop)), "operation `o` needs the parameter `null`");
    }
}
