//! Tasks: scheduled operations.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation::is_truthy;
use super::{JsonObject, Operation};

/// A scheduled operation: how often, how long and how fast it is run, by how many clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// The name, unique in the challenge. A task without one is named after its operation.
    pub name: String,
    /// What it does. Tasks that name the same operation share it.
    pub operation: Arc<Operation>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Added to the metadata of what is measured.
    pub meta: JsonObject,
    /// Clients that run it at the same time, at least one.
    pub clients: u32,
    /// Executions per client whose results do not count.
    pub warmup_iterations: Option<u64>,
    /// Executions per client.
    pub iterations: Option<u64>,
    /// Time at the start whose results do not count. Whole seconds.
    pub warmup_time_period: Option<Duration>,
    /// How long it is run after that. Whole seconds.
    pub time_period: Option<Duration>,
    /// Time in which the clients start, one after the other. Whole seconds.
    pub ramp_up_time_period: Option<Duration>,
    /// The scheduler, if it is not the default one.
    pub schedule: Option<String>,
    /// How fast it is run by all clients together; as fast as possible if there is none.
    pub target_throughput: Option<TargetThroughput>,
    /// Whether errors of responses are tolerated even in a race that is to abort on errors.
    pub ignores_non_fatal_errors: bool,
    /// Whether the end of this task ends all tasks of its parallel element.
    pub completes_parent: bool,
    /// Whether its parallel element ends with whichever task ends first.
    pub any_completes_parent: bool,
    /// Everything that the track says of the task, as it is written, except for its operation. Schedulers of plugins
    /// find their parameters here.
    pub params: JsonObject,
}

/// How much all clients of a task together should do per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetThroughput {
    /// How many of the unit.
    pub value: f64,
    /// What is counted, such as `ops/s` or `docs/s`.
    pub unit: String,
}

impl fmt::Display for TargetThroughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.value, self.unit)
    }
}

/// A `target-throughput` or `target-interval` makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseThroughputError {
    /// Both are there.
    #[error("`target-throughput` and `target-interval` exclude each other")]
    Both,
    /// The interval is not a number.
    #[error("`target-interval` must be a number of seconds")]
    Interval,
    /// The throughput is neither a number nor a number with a unit.
    #[error("`target-throughput` must be a number or a text such as `500 docs/s`")]
    Throughput,
}

impl TargetThroughput {
    /// Reads what a task says of its throughput. Nothing and zero mean that it is not throttled.
    pub(crate) fn from_params(params: &JsonObject) -> Result<Option<Self>, ParseThroughputError> {
        let given = |key| params.get(key).filter(|value: &&Value| !value.is_null());
        let (throughput, interval) = (given("target-throughput"), given("target-interval"));
        if throughput.is_some() && interval.is_some() {
            return Err(ParseThroughputError::Both);
        }
        let (value, unit) = if let Some(interval) = interval.filter(|value| is_truthy(value)) {
            (1.0 / interval.as_f64().ok_or(ParseThroughputError::Interval)?, "ops/s".to_owned())
        } else {
            match throughput.filter(|value| is_truthy(value)) {
                None => return Ok(None),
                Some(Value::String(text)) => parse(text).ok_or(ParseThroughputError::Throughput)?,
                Some(value) => (value.as_f64().ok_or(ParseThroughputError::Throughput)?, "ops/s".to_owned()),
            }
        };
        Ok((value != 0.0).then_some(Self { value, unit }))
    }
}

/// Parses a number, one blank, and a unit up to `/s`. What follows does not matter.
fn parse(text: &str) -> Option<(f64, String)> {
    let number = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let digits = &text[..number];
    if digits.is_empty() || digits.ends_with('.') || digits.matches('.').count() > 1 {
        return None;
    }
    let rest = text[number..].strip_prefix(char::is_whitespace)?;
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if word == 0 || !rest[word..].starts_with("/s") {
        return None;
    }
    Some((digits.parse().ok()?, rest[..word + 2].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn throughput(params: Value) -> Result<Option<String>, ParseThroughputError> {
        let Value::Object(params) = params else { panic!("an object") };
        Ok(TargetThroughput::from_params(&params)?.map(|throughput| throughput.to_string()))
    }

    #[test]
    fn throughput_is_a_number_or_a_number_with_a_unit_or_an_interval() {
        for (params, expected) in [
            (json!({}), None),
            (json!({"target-throughput": 10}), Some("10 ops/s")),
            (json!({"target-throughput": 0.5}), Some("0.5 ops/s")),
            (json!({"target-throughput": "100 docs/s"}), Some("100 docs/s")),
            (json!({"target-throughput": ".5 docs/second"}), Some("0.5 docs/s")),
            (json!({"target-interval": 4}), Some("0.25 ops/s")),
            (json!({"target-throughput": 0}), None),
            (json!({"target-throughput": ""}), None),
            (json!({"target-throughput": "0 ops/s"}), None),
            (json!({"target-interval": 0}), None),
            (json!({"target-throughput": null, "target-interval": 2}), Some("0.5 ops/s")),
        ] {
            assert_eq!(throughput(params.clone()).unwrap().as_deref(), expected, "{params}");
        }
        for (params, expected) in [
            (json!({"target-throughput": 1, "target-interval": 1}), ParseThroughputError::Both),
            (json!({"target-throughput": 0, "target-interval": 0}), ParseThroughputError::Both),
            (json!({"target-interval": "1"}), ParseThroughputError::Interval),
            (json!({"target-interval": true}), ParseThroughputError::Interval),
            (json!({"target-throughput": true}), ParseThroughputError::Throughput),
            (json!({"target-throughput": "fast"}), ParseThroughputError::Throughput),
            (json!({"target-throughput": "1,000 docs/s"}), ParseThroughputError::Throughput),
            (json!({"target-throughput": "10docs/s"}), ParseThroughputError::Throughput),
            (json!({"target-throughput": "10 docs"}), ParseThroughputError::Throughput),
            (json!({"target-throughput": "10. docs/s"}), ParseThroughputError::Throughput),
        ] {
            assert_eq!(throughput(params.clone()).unwrap_err(), expected, "{params}");
        }
    }
}
