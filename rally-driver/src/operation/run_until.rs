//! `run-until`: the same request again and again until its answer meets a criterion.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::given::Given;
use super::json::find;
use super::raw_request::free_request;
use super::{senseless, unprepared};
use crate::client::{Client, PreparedRequest};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// How long is waited between two requests unless the operation says so.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct RunUntil {
    setup: RunnerSetup,
    client: Rc<Client>,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    request: PreparedRequest,
    path: String,
    criterion: Criterion,
    wait: Duration,
}

/// What the value at the path must be. Numbers are compared as integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Criterion {
    Exists,
    NotExists,
    AtLeast(i64),
    AtMost(i64),
    Equal(i64),
    NotEqual(i64),
}

impl RunUntil {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for RunUntil {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        let path = given.wanted_text("json-path")?;
        let criterion = Criterion::read(given.wanted("criterion")?).map_err(|problem| given.invalid(problem))?;
        let wait = given.seconds("retry-wait-interval", WAIT)?;
        let request = free_request(&given)?;
        self.prepared = Some(Prepared { request, path: path.to_owned(), criterion, wait });
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let Prepared { request, path, criterion, wait } = self.prepared.as_ref().ok_or_else(unprepared)?;
        loop {
            let response = self.client.send(request).await?;
            let value: Option<Value> = find(&response.body, path).map_err(senseless("a request that is repeated"))?;
            let operation = &self.setup.task.operation.name;
            let is_met = criterion.is_met(value.as_ref());
            if is_met.map_err(|problem| RunnerError::response(format!("operation `{operation}`: {problem}")))? {
                return Ok(Outcome::default());
            }
            tokio::time::sleep(*wait).await;
        }
    }
}

impl Criterion {
    fn read(given: &Value) -> Result<Self, String> {
        let operator = given.get("operator").and_then(Value::as_str);
        let number = || {
            let value = given.get("value").ok_or("`criterion` needs a `value` to compare with")?;
            integer(value).ok_or_else(|| format!("the `value` of `criterion` must be an integer, not {value}"))
        };
        Ok(match operator {
            Some("exists") => Self::Exists,
            Some("not_exists") => Self::NotExists,
            Some("gte") => Self::AtLeast(number()?),
            Some("lte") => Self::AtMost(number()?),
            Some("eq") => Self::Equal(number()?),
            Some("neq") => Self::NotEqual(number()?),
            _ => {
                return Err(format!(
                    "the `operator` of `criterion` must be one of exists, not_exists, gte, lte, eq and neq, not {}",
                    given.get("operator").unwrap_or(&Value::Null)
                ));
            }
        })
    }

    /// Whether the value meets it. One that is not there is only met by its absence, and so is `null`.
    fn is_met(self, value: Option<&Value>) -> Result<bool, String> {
        let value = value.filter(|value| !value.is_null());
        let compare = |fits: &dyn Fn(i64) -> bool| match value {
            None => Ok(false),
            Some(value) => integer(value).map(fits).ok_or_else(|| format!("cannot compare {value} as an integer")),
        };
        match self {
            Self::Exists => Ok(value.is_some()),
            Self::NotExists => Ok(value.is_none()),
            Self::AtLeast(wanted) => compare(&|found| found >= wanted),
            Self::AtMost(wanted) => compare(&|found| found <= wanted),
            Self::Equal(wanted) => compare(&|found| found == wanted),
            Self::NotEqual(wanted) => compare(&|found| found != wanted),
        }
    }
}

/// An integer, a number without its fraction, or a text of digits.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(i64::from(*flag)),
        number => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn criteria_compare_integers_and_know_what_is_missing() {
        let criterion =
            |operator: &str, value: i64| Criterion::read(&json!({ "operator": operator, "value": value })).unwrap();
        for (criterion, value, expected) in [
            (criterion("exists", 0), Some(json!(0)), true),
            (criterion("exists", 0), Some(json!("")), true),
            (criterion("exists", 0), Some(json!(null)), false),
            (criterion("exists", 0), None, false),
            (criterion("not_exists", 0), None, true),
            (criterion("not_exists", 0), Some(json!(false)), false),
            (criterion("gte", 5), Some(json!(5)), true),
            (criterion("gte", 5), Some(json!(4.9)), false),
            (criterion("lte", 0), Some(json!(0)), true),
            (criterion("lte", 0), None, false),
            (criterion("eq", 7), Some(json!("7")), true),
            (criterion("neq", 7), Some(json!(8)), true),
            (criterion("neq", 7), Some(json!(7)), false),
        ] {
            assert_eq!(criterion.is_met(value.as_ref()), Ok(expected), "{criterion:?} {value:?}");
        }
        assert!(criterion("eq", 1).is_met(Some(&json!([]))).is_err());
        for (given, problem) in [
            (json!({ "operator": "between" }), "not \"between\""),
            (json!({ "operator": "gte" }), "needs a `value`"),
            (json!({ "operator": "gte", "value": "many" }), "must be an integer, not \"many\""),
        ] {
            assert!(Criterion::read(&given).unwrap_err().contains(problem), "{given}");
        }
    }
}
