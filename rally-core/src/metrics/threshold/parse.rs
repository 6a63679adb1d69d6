//! Thresholds from text.

use std::fmt;
use std::str::FromStr;

use super::{
    Aggregate, Threshold, ThresholdMetric, ThresholdOperator, ThresholdTask, ThresholdUnit, TimeKind, TimeValue,
};

/// A text is no threshold. Its display shows the text with a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdSyntaxError {
    text: String,
    /// In characters.
    column: usize,
    expected: &'static str,
}

impl fmt::Display for ThresholdSyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text stays on one line, so that the caret finds its place.
        let text = self.text.replace(char::is_control, " ");
        write!(f, "expected {}\n\t{text}\n\t{:>width$}", self.expected, "^", width = self.column + 1)
    }
}

impl std::error::Error for ThresholdSyntaxError {}

const TASK: &str = "the name of a task, in quotes if it has other characters than letters, digits, `_` and `-`, or `*`";
const METRIC: &str = "throughput, latency, service_time, processing_time, error_rate or duration";
const AGGREGATE: &str = "min, mean, median or max";
const TIME_VALUE: &str = "a percentile such as p99.9 (from p0 to p100), mean, min or max";
const OPERATOR: &str = "one of > >= < <=";
const LIMIT: &str = "a number that is not negative, such as 50 or 0.5";
const TIME_UNIT: &str = "a unit: us, ms, s or min";
const PERCENT: &str = "the unit %";
const PER_SECOND: &str = "a unit such as docs/s, or none";
const END: &str = "the end";

/// Whether a name with this character needs no quotes.
pub(super) fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

impl FromStr for Threshold {
    type Err = ThresholdSyntaxError;

    fn from_str(text: &str) -> Result<Self, ThresholdSyntaxError> {
        Cursor { text, rest: text }.threshold()
    }
}

impl TryFrom<String> for Threshold {
    type Error = ThresholdSyntaxError;

    fn try_from(text: String) -> Result<Self, ThresholdSyntaxError> {
        text.parse()
    }
}

struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn threshold(mut self) -> Result<Threshold, ThresholdSyntaxError> {
        let task = self.task()?;
        self.space();
        if !self.take(".") {
            return Err(self.expected("`.` and a metric after the name of the task"));
        }
        let metric = self.metric()?;
        let operator = self.operator()?;
        let limit = self.number(LIMIT)?;
        let unit = self.unit(metric, limit)?;
        self.space();
        if !self.rest.is_empty() {
            return Err(self.expected(END));
        }
        Ok(Threshold { task, metric, operator, limit, unit })
    }

    fn task(&mut self) -> Result<ThresholdTask, ThresholdSyntaxError> {
        self.space();
        if self.take("*") {
            return Ok(ThresholdTask::Every);
        }
        if self.take("'") {
            let name = self.while_(|character| character != '\'');
            let closed = self.take("'");
            return if closed { Ok(ThresholdTask::Named(name.to_owned())) } else { Err(self.expected("a closing '")) };
        }
        if self.take("\"") {
            return self.double_quoted().map(ThresholdTask::Named);
        }
        match self.while_(is_plain) {
            "" => Err(self.expected(TASK)),
            name => Ok(ThresholdTask::Named(name.to_owned())),
        }
    }

    fn double_quoted(&mut self) -> Result<String, ThresholdSyntaxError> {
        let mut name = String::new();
        loop {
            name += self.while_(|character| !matches!(character, '"' | '\\'));
            if self.take("\"") {
                return Ok(name);
            }
            if self.take("\\\"") {
                name.push('"');
            } else if self.take("\\\\") {
                name.push('\\');
            } else if self.rest.is_empty() {
                return Err(self.expected("a closing \""));
            } else {
                return Err(self.expected("\\\" or \\\\"));
            }
        }
    }

    fn metric(&mut self) -> Result<ThresholdMetric, ThresholdSyntaxError> {
        self.space();
        let start = self.rest;
        Ok(match self.while_(is_plain) {
            "throughput" => ThresholdMetric::Throughput(self.aggregate()?),
            "latency" => ThresholdMetric::Time(TimeKind::Latency, self.time_value()?),
            "service_time" => ThresholdMetric::Time(TimeKind::ServiceTime, self.time_value()?),
            "processing_time" => ThresholdMetric::Time(TimeKind::ProcessingTime, self.time_value()?),
            "error_rate" => ThresholdMetric::ErrorRate,
            "duration" => ThresholdMetric::Duration,
            _ => return Err(self.expected_at(start, METRIC)),
        })
    }

    fn aggregate(&mut self) -> Result<Aggregate, ThresholdSyntaxError> {
        if !self.take(".") {
            return Err(self.expected("`.` and min, mean, median or max"));
        }
        let start = self.rest;
        Ok(match self.while_(is_plain) {
            "min" => Aggregate::Min,
            "mean" => Aggregate::Mean,
            "median" => Aggregate::Median,
            "max" => Aggregate::Max,
            _ => return Err(self.expected_at(start, AGGREGATE)),
        })
    }

    fn time_value(&mut self) -> Result<TimeValue, ThresholdSyntaxError> {
        if !self.take(".") {
            return Err(self.expected("`.` and a percentile such as p99, mean, min or max"));
        }
        let start = self.rest;
        for (name, value) in [("mean", TimeValue::Mean), ("min", TimeValue::Min), ("max", TimeValue::Max)] {
            if self.take(name) {
                return Ok(value);
            }
        }
        if !self.take("p") {
            return Err(self.expected(TIME_VALUE));
        }
        match self.digits() {
            Some(percentile) if percentile <= 100.0 => Ok(TimeValue::Percentile(percentile)),
            Some(_) | None => Err(self.expected_at(start, TIME_VALUE)),
        }
    }

    fn operator(&mut self) -> Result<ThresholdOperator, ThresholdSyntaxError> {
        self.space();
        // The longer ones first.
        for (text, operator) in [
            (">=", ThresholdOperator::GreaterOrEqual),
            ("<=", ThresholdOperator::LessOrEqual),
            (">", ThresholdOperator::Greater),
            ("<", ThresholdOperator::Less),
        ] {
            if self.take(text) {
                return Ok(operator);
            }
        }
        Err(self.expected(OPERATOR))
    }

    fn number(&mut self, expected: &'static str) -> Result<f64, ThresholdSyntaxError> {
        self.space();
        let start = self.rest;
        self.digits().ok_or_else(|| self.expected_at(start, expected))
    }

    fn digits(&mut self) -> Option<f64> {
        let text = self.while_(|character| character.is_ascii_digit() || character == '.');
        // Rust also reads `.5` and `5.`.
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn unit(&mut self, metric: ThresholdMetric, limit: f64) -> Result<ThresholdUnit, ThresholdSyntaxError> {
        self.space();
        let start = self.rest;
        let text = self.while_(|character| !character.is_whitespace());
        match (metric, text) {
            (ThresholdMetric::Throughput(_), "") => return Ok(ThresholdUnit::None),
            (ThresholdMetric::Throughput(_), text) => {
                let what = text.strip_suffix("/s").filter(|what| what.chars().all(is_plain));
                let what = what.ok_or_else(|| self.expected_at(start, PER_SECOND))?;
                return Ok(ThresholdUnit::PerSecond(what.to_owned()));
            }
            (_, "") if limit == 0.0 => return Ok(ThresholdUnit::None),
            (ThresholdMetric::ErrorRate, "%") => return Ok(ThresholdUnit::Percent),
            (ThresholdMetric::ErrorRate, _) => return Err(self.expected_at(start, PERCENT)),
            (ThresholdMetric::Time(..) | ThresholdMetric::Duration, _) => {}
        }
        Ok(match text {
            "us" | "µs" => ThresholdUnit::Microseconds,
            "ms" => ThresholdUnit::Milliseconds,
            "s" => ThresholdUnit::Seconds,
            "min" => ThresholdUnit::Minutes,
            _ => return Err(self.expected_at(start, TIME_UNIT)),
        })
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn while_(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text
    }

    fn expected(&self, expected: &'static str) -> ThresholdSyntaxError {
        self.expected_at(self.rest, expected)
    }

    /// An error at the place where `rest` begins.
    fn expected_at(&self, rest: &str, expected: &'static str) -> ThresholdSyntaxError {
        let before = &self.text[..self.text.len() - rest.len()];
        ThresholdSyntaxError { text: self.text.to_owned(), column: before.chars().count(), expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thresholds_are_read_in_all_their_forms() {
        for (text, shown) in [
            ("search.service_time.p99 > 50ms", "search.service_time.p99 > 50ms"),
            (" search . latency.p99.9>=0.5 s ", "search.latency.p99.9 >= 0.5s"),
            ("'my task'.latency.mean<10us", "\"my task\".latency.mean < 10us"),
            (r#""a \"b\" \\c".processing_time.max <= 2min"#, r#""a \"b\" \\c".processing_time.max <= 2min"#),
            ("*.error_rate > 0", "*.error_rate > 0"),
            ("*.error_rate > 1.5%", "*.error_rate > 1.5%"),
            ("index-append.throughput.median < 20000 docs/s", "index-append.throughput.median < 20000docs/s"),
            ("index.throughput.min < 3", "index.throughput.min < 3"),
            ("index.duration > 10min", "index.duration > 10min"),
        ] {
            assert_eq!(text.parse::<Threshold>().map(|it| it.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_caret_shows_what_is_wrong() {
        for (text, column, expected) in [
            ("", 0, TASK),
            ("search", 6, "`.` and a metric after the name of the task"),
            ("search.speed > 3", 7, METRIC),
            ("search.latency > 3ms", 14, "`.` and a percentile such as p99, mean, min or max"),
            ("search.latency.p101 > 3ms", 15, TIME_VALUE),
            ("search.latency.median > 3ms", 15, TIME_VALUE),
            ("search.throughput.p99 > 3", 18, AGGREGATE),
            ("search.latency.p99 = 3ms", 19, OPERATOR),
            ("search.latency.p99 > -3ms", 21, LIMIT),
            ("search.latency.p99 > 3", 22, TIME_UNIT),
            ("search.latency.p99 > 3 %", 23, TIME_UNIT),
            ("search.error_rate > 0.1", 23, PERCENT),
            ("search.throughput.min > 3 docs", 26, PER_SECOND),
            ("search.error_rate > 1% and", 23, END),
            ("'search.error_rate > 1%", 23, "a closing '"),
            ("über.latency.p9x > 3ms", 15, OPERATOR),
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert_eq!((error.column, error.expected), (column, expected), "{text}");
        }
        let error = "search.speed > 3".parse::<Threshold>().unwrap_err().to_string();
        assert_eq!(error, format!("expected {METRIC}\n\tsearch.speed > 3\n\t       ^"));
    }

    fn threshold() -> impl Strategy<Value = Threshold> {
        let task = prop_oneof![
            Just(ThresholdTask::Every),
            "[a-z_-]{1,8}".prop_map(ThresholdTask::Named),
            ".{0,8}".prop_map(ThresholdTask::Named)
        ];
        let aggregate = prop::sample::select(vec![Aggregate::Min, Aggregate::Mean, Aggregate::Median, Aggregate::Max]);
        let kind = prop::sample::select(vec![TimeKind::Latency, TimeKind::ServiceTime, TimeKind::ProcessingTime]);
        let value = prop_oneof![
            (0.0..=100.0).prop_map(TimeValue::Percentile),
            prop::sample::select(vec![TimeValue::Mean, TimeValue::Min, TimeValue::Max])
        ];
        let time_unit = prop::sample::select(vec![
            ThresholdUnit::Microseconds,
            ThresholdUnit::Milliseconds,
            ThresholdUnit::Seconds,
            ThresholdUnit::Minutes,
        ]);
        let throughput_unit =
            prop_oneof![Just(ThresholdUnit::None), "[a-zA-Z]{0,5}".prop_map(ThresholdUnit::PerSecond)];
        let metric = prop_oneof![
            (aggregate, throughput_unit).prop_map(|(it, unit)| (ThresholdMetric::Throughput(it), unit)),
            (kind, value, time_unit.clone()).prop_map(|(kind, value, unit)| (ThresholdMetric::Time(kind, value), unit)),
            time_unit.prop_map(|unit| (ThresholdMetric::Duration, unit)),
            Just((ThresholdMetric::ErrorRate, ThresholdUnit::Percent)),
        ];
        let operator = prop::sample::select(vec![
            ThresholdOperator::Greater,
            ThresholdOperator::GreaterOrEqual,
            ThresholdOperator::Less,
            ThresholdOperator::LessOrEqual,
        ]);
        let limit = prop_oneof![0.0..1e9f64, Just(0.0), Just(1e300)];
        (task, metric, operator, limit).prop_map(|(task, (metric, unit), operator, limit)| Threshold {
            task,
            metric,
            operator,
            limit,
            unit,
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(threshold in threshold()) {
            prop_assert_eq!(threshold.to_string().parse(), Ok(threshold));
        }

        #[test]
        fn no_text_is_too_much(text in ".{0,40}") {
            let _ = text.parse::<Threshold>().map_err(|error| error.to_string());
        }
    }
}
