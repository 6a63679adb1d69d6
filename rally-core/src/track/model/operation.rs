//! Operations: what a task does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JsonObject, OperationType};

/// What a task does, such as a bulk request or a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// The name. An operation without one is named after its type.
    pub name: String,
    /// The type.
    pub operation_type: OperationType,
    /// The source of its parameters by name, in place of the one that belongs to its type.
    pub param_source: Option<String>,
    /// Added to the metadata of what is measured.
    pub meta: JsonObject,
    /// Everything that the track says of the operation, as it is written, with `include-in-reporting` added if the type
    /// is a built-in one. This is what parameter sources work with.
    pub params: JsonObject,
}

impl Operation {
    /// Whether results of the operation are part of the report.
    #[must_use]
    pub fn include_in_reporting(&self) -> bool {
        self.params.get("include-in-reporting").is_none_or(is_truthy)
    }

    /// Whether the operation says itself if it may run on serverless.
    #[must_use]
    pub fn run_on_serverless(&self) -> Option<bool> {
        self.params.get("run-on-serverless").filter(|value| !value.is_null()).map(is_truthy)
    }
}

/// Whether Python takes a value for true.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}
