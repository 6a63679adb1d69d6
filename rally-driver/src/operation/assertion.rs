//! Checks what the operation's property `assertions` says of every result.

use std::cmp::Ordering;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::given::Given;
use super::request::query_text;
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// A runner whose results must be as its operation says. One that is not ends the race.
pub(crate) struct Asserting {
    setup: RunnerSetup,
    inner: Box<dyn Runner>,
    assertions: Vec<Assertion>,
}

#[derive(Clone, Debug, PartialEq)]
struct Assertion {
    /// Keys of the result, with `.` between them.
    property: String,
    condition: Condition,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
}

impl Asserting {
    pub(crate) fn new(setup: &RunnerSetup, inner: Box<dyn Runner>) -> Self {
        Self { setup: setup.clone(), inner, assertions: Vec::new() }
    }
}

#[async_trait(?Send)]
impl Runner for Asserting {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        self.assertions = match given.get("assertions") {
            None => Vec::new(),
            Some(_) => given
                .list("assertions")?
                .iter()
                .map(|assertion| Assertion::read(assertion).ok_or_else(|| malformed(&given, assertion)))
                .collect::<Result<_, _>>()?,
        };
        self.inner.prepare(params)
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let outcome = self.inner.run().await?;
        let operation = &self.setup.task.operation.name;
        self.assertions
            .iter()
            .try_for_each(|assertion| assertion.check(&outcome))
            .map_err(|problem| RunnerError::Assertion(format!("operation `{operation}`: {problem}")))?;
        Ok(outcome)
    }

    fn progress(&self) -> Option<f64> {
        self.inner.progress()
    }

    fn is_self_terminating(&self) -> bool {
        self.inner.is_self_terminating()
    }
}

fn malformed(given: &Given<'_>, assertion: &Value) -> RunnerError {
    given.invalid(format!(
        "every element of `assertions` must have `property`, `value`, and one of the conditions >, >=, <, <= and ==, \
         unlike {assertion}"
    ))
}

impl Assertion {
    fn read(written: &Value) -> Option<Self> {
        let condition = match written.get("condition")?.as_str()? {
            ">" => Condition::Greater,
            ">=" => Condition::GreaterOrEqual,
            "<" => Condition::Less,
            "<=" => Condition::LessOrEqual,
            "==" => Condition::Equal,
            _ => return None,
        };
        Some(Self {
            property: written.get("property")?.as_str()?.to_owned(),
            condition,
            value: written.get("value")?.clone(),
        })
    }

    /// Says what does not hold.
    fn check(&self, outcome: &Outcome) -> Result<(), String> {
        let Self { property, condition, value } = self;
        let found = find(outcome, property).ok_or_else(|| {
            let known: Vec<_> = outcome.meta.keys().map(String::as_str).chain(["weight", "unit", "success"]).collect();
            format!("its result has no `{property}` to be checked; it has {}", known.join(", "))
        })?;
        if condition.holds(&found, value) {
            return Ok(());
        }
        Err(format!("`{property}` must be {} {}, but is {}", condition.sign(), query_text(value), query_text(&found)))
    }
}

/// A property of a result, which is what stays with the sample and weight, unit, success and throughput beside it.
fn find(outcome: &Outcome, path: &str) -> Option<Value> {
    match path {
        "weight" => return Some(json!(outcome.weight)),
        "unit" => return Some(json!(outcome.unit)),
        "success" => return Some(json!(outcome.success)),
        "throughput" if outcome.throughput.is_some() => return Some(json!(outcome.throughput)),
        _ => {}
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = outcome.meta.get(first)?;
    rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(value, |value, key| value.get(key)).cloned()
}

impl Condition {
    fn holds(self, found: &Value, expected: &Value) -> bool {
        compare(found, expected).is_some_and(|order| match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
        })
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
        }
    }
}

/// The order of two values: that of numbers, whether whole or not, or that of texts. Others have one only if they are equal.
pub(super) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}

/// Whole numbers beyond the precision of a float are still compared exactly.
fn compare_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64(), left.as_u64(), right.as_u64()) {
        (Some(left), Some(right), ..) => Some(left.cmp(&right)),
        (.., Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(assertion: Value, meta: Value) -> Result<(), String> {
        let outcome = Outcome { weight: 7, meta: meta.as_object().unwrap().clone(), ..Outcome::default() };
        Assertion::read(&assertion).unwrap().check(&outcome)
    }

    #[test]
    fn results_are_compared_with_what_is_expected_of_them() {
        let meta = json!({ "hits": 10, "ratio": 0.5, "name": "b", "timed_out": false, "shards": { "failed": 0 } });
        for (property, condition, value, holds) in [
            ("hits", ">", json!(9), true),
            ("hits", ">", json!(10), false),
            ("hits", ">=", json!(10.0), true),
            ("hits", "<", json!(10.5), true),
            ("hits", "<=", json!(9), false),
            ("hits", "==", json!(10.0), true),
            ("ratio", "<", json!(1), true),
            ("name", ">", json!("a"), true),
            ("name", "==", json!("b"), true),
            ("timed_out", "==", json!(false), true),
            ("timed_out", ">", json!(false), false),
            ("shards.failed", "==", json!(0), true),
            ("hits", "==", json!("10"), false),
            ("weight", "==", json!(7), true),
            ("unit", "==", json!("ops"), true),
            ("success", "==", json!(true), true),
        ] {
            let assertion = json!({ "property": property, "condition": condition, "value": value });
            assert_eq!(check(assertion.clone(), meta.clone()).is_ok(), holds, "{assertion}");
        }
    }

    #[test]
    fn what_does_not_hold_is_said_in_a_sentence() {
        let assertion = |property| json!({ "property": property, "condition": ">", "value": 0 });
        let meta = json!({ "hits": 0 });
        assert_eq!(check(assertion("hits"), meta.clone()).unwrap_err(), "`hits` must be > 0, but is 0");
        let missing = "its result has no `hits.total` to be checked; it has hits, weight, unit, success";
        assert_eq!(check(assertion("hits.total"), meta).unwrap_err(), missing);
    }

    #[test]
    fn an_assertion_needs_a_property_a_known_condition_and_a_value() {
        for broken in [
            json!({}),
            json!("hits > 0"),
            json!({ "property": "hits", "condition": "!=", "value": 0 }),
            json!({ "property": "hits", "condition": "==" }),
            json!({ "property": 1, "condition": "==", "value": 0 }),
        ] {
            assert_eq!(Assertion::read(&broken), None, "{broken}");
        }
    }
}
