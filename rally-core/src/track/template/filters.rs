//! Filters where Jinja2 and the engine differ, and those of Rally.

use jiff::civil::Time;
use jiff::fmt::strtime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use minijinja::value::{ArgType, Kwargs, Rest, StringInput, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python;

/// Adds the filters that every template has.
///
/// No text that `join` makes takes more than `longest` bytes.
pub(crate) fn add(env: &mut Environment<'_>, longest: usize) {
    env.add_filter(
        "join",
        move |state: &mut State<'_, '_>,
              value: Value,
              joiner: Option<Value>,
              attribute: Option<Value>,
              kwargs: Kwargs| { join(state, value, joiner, attribute, &kwargs, longest) },
    );
    env.add_filter("list", list);
    env.add_filter("sort", |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        python::charge_size(state, &value)?;
        minijinja::filters::sort(state, value, kwargs)
    });
    env.add_filter("unique", |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        python::charge_size(state, &value)?;
        minijinja::filters::unique(state, value, kwargs)
    });
    env.add_filter("tojson", tojson);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("round", round);
    env.add_filter("string", |value: Value| python::text_of(&value));
    env.add_filter("center", center);
    ["e", "escape", "forceescape"].iter().for_each(|name| env.add_filter(*name, escape));
    env.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    env.add_filter("striptags", minijinja_contrib::filters::striptags);
    env.add_filter("truncate", truncate_text);
    env.add_filter("wordcount", minijinja_contrib::filters::wordcount);
    env.add_filter("wordwrap", minijinja_contrib::filters::wordwrap);
    // A track that uses these would not load elsewhere.
    ["bool", "chain", "lines", "split", "zip"].iter().for_each(|name| env.remove_filter(name));
}

/// Adds the filters about dates, which only the track file itself has.
pub(crate) fn add_dates(env: &mut Environment<'_>) {
    env.add_filter("days_ago", days_ago);
    env.add_filter("get_start_date", get_start_date);
    env.add_filter("get_end_date", get_end_date);
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

fn refuse_undefined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() { Err(ErrorKind::UndefinedError.into()) } else { Ok(()) }
}

/// The engine's `join`, which would build the whole text before it counts what it takes.
fn join(
    state: &mut State<'_, '_>,
    value: Value,
    joiner: Option<Value>,
    attribute: Option<Value>,
    kwargs: &Kwargs,
    longest: usize,
) -> Result<Value, Error> {
    let joiner = joiner.or(kwargs.get("d")?);
    let attribute = attribute.or(kwargs.get("attribute")?);
    kwargs.assert_all_used()?;
    let value = match attribute {
        Some(attribute) => {
            let named = Kwargs::from_iter([("attribute", attribute), ("default", Value::from(""))]);
            state.apply_filter("map", &[value, named.into()])?
        }
        None => value,
    };
    let between = joiner.as_ref().map_or(Ok(0), text_length)?;
    if let Ok(items) = value.try_iter() {
        let mut length = 0;
        for (index, item) in items.enumerate() {
            let added = text_length(&item)? + if index > 0 { between } else { 0 };
            python::charge_text(state, added, longest)?;
            length += added;
            python::refuse_long_text(length, longest)?;
        }
    }
    let joiner = joiner.as_ref().map(|joiner| StringInput::from_value(Some(joiner))).transpose()?;
    minijinja::filters::join(state, &value, joiner, None, Kwargs::from_iter::<[(&str, Value); 0]>([]))
}

/// Bytes of a value's text.
fn text_length(value: &Value) -> Result<usize, Error> {
    value.as_str().map_or_else(|| python::text_of(value).map(|text| text.len()), |text| Ok(text.len()))
}

/// The engine's `list`, which counts little for what a list takes.
fn list(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::String {
        state.consume_fuel(2 * value.len().unwrap_or(0) as u64)?;
    }
    minijinja::filters::list(state, value)
}

/// `tojson` indents by no more blanks than this.
const MAX_INDENT: usize = 64;

fn tojson(value: Value, indent: Option<usize>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<usize>>("indent")?,
    };
    kwargs.assert_all_used()?;
    refuse_undefined(&value)?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(invalid(format!("`tojson` cannot indent by more than {MAX_INDENT} blanks")));
    }
    python::to_json(&value, indent).map(Value::from)
}

/// Underscores between digits count for nothing in Python's numbers; anywhere else they are an error.
fn without_underscores(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let well_placed = text.match_indices('_').all(|(at, _)| {
        at > 0 && bytes[at - 1].is_ascii_alphanumeric() && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
    });
    well_placed.then(|| text.replace('_', ""))
}

fn parse_float(text: &str) -> Option<f64> {
    without_underscores(text)?.parse().ok()
}

fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = without_underscores(text)?;
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text.as_str()),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match (base, prefix.as_deref()) {
        (0 | 16, Some("0x")) => (16, &digits[2..]),
        (0 | 8, Some("0o")) => (8, &digits[2..]),
        (0 | 2, Some("0b")) => (2, &digits[2..]),
        (0, _) => (10, digits),
        (base @ 2..=36, _) => (base, digits),
        _ => return None,
    };
    if !digits.chars().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    i128::from_str_radix(digits, base).ok().map(|value| sign * value)
}

fn truncate(value: f64) -> Result<Value, Error> {
    if !value.is_finite() || value.abs() >= 1e38 {
        return Err(invalid(format!("cannot convert {} to an integer", python::float_text(value))));
    }
    // In range, and the fraction is to be dropped.
    Ok(integer(value as i128))
}

fn integer(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

fn int(value: Value, default: Option<Value>, base: Option<u32>, kwargs: Kwargs) -> Result<Value, Error> {
    refuse_undefined(&value)?;
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0));
    let base = base.or(kwargs.get("base")?).unwrap_or(10);
    kwargs.assert_all_used()?;
    match value.kind() {
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number => python::as_float(&value).map_or(Ok(value), truncate),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            match (parse_int(text, base), parse_float(text)) {
                (Some(value), _) => Ok(integer(value)),
                (None, Some(value)) if value.is_nan() => Ok(default),
                (None, Some(value)) => truncate(value),
                (None, None) => Ok(default),
            }
        }
        _ => Ok(default),
    }
}

fn float(value: Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    refuse_undefined(&value)?;
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value).map_or(default, Value::from),
        ValueKind::String => parse_float(value.as_str().unwrap_or_default()).map_or(default, Value::from),
        _ => default,
    })
}

/// Takes its arguments as they come: `default(none)` gives `none`, which an optional argument would take for missing.
fn default(value: Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let argument = |index: usize, name| match args.get(index) {
        Some(argument) => Ok(Some(argument.clone())),
        None if kwargs.has(name) => kwargs.get::<Value>(name).map(Some),
        None => Ok(None),
    };
    let other = argument(0, "default_value")?.unwrap_or_else(|| Value::from(""));
    let boolean = argument(1, "boolean")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    if args.len() > 2 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value })
}

fn round(value: Value, precision: Option<i32>, method: Option<String>, kwargs: Kwargs) -> Result<Value, Error> {
    let precision = precision.or(kwargs.get("precision")?).unwrap_or(0);
    let method = method.or(kwargs.get("method")?).unwrap_or_else(|| "common".to_owned());
    kwargs.assert_all_used()?;
    // `ceil` and `floor` divide, so that an integer becomes a float.
    let value = if method != "common" && value.is_integer() { Value::from(f64::try_from(value)?) } else { value };
    minijinja::filters::round(value, Some(precision), Some(&method), Kwargs::from_iter::<[(&str, Value); 0]>([]))
}

fn escape(value: Value) -> Result<String, Error> {
    let text = python::text_of(&value)?;
    Ok(text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;"))
}

fn center(text: String, width: Option<usize>) -> String {
    let missing = width.unwrap_or(80).min(1 << 16).saturating_sub(text.chars().count());
    // Python puts the odd blank to the left if the width is odd.
    let left = missing / 2 + (missing & width.unwrap_or(80) & 1);
    format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))
}

/// The engine takes the arguments by name only.
fn truncate_text(state: &mut State<'_, '_>, text: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut named: Vec<(&str, Value)> = ["length", "killwords", "end", "leeway"].into_iter().zip(args.0).collect();
    for name in kwargs.args() {
        named.push((name, kwargs.get(name)?));
    }
    minijinja_contrib::filters::truncate(state, text, Kwargs::from_iter(named))
}

/// A point in time: seconds since the epoch, or a text of the given format in UTC unless it says otherwise.
fn timestamp(value: &Value, format: Option<&str>) -> Result<Timestamp, Error> {
    let describe = |error: jiff::Error| invalid(format!("{} is no date: {error}", value));
    if value.kind() == ValueKind::Number {
        let seconds = f64::try_from(value.clone())?;
        let since_epoch = SignedDuration::try_from_secs_f64(seconds).map_err(describe)?;
        return Timestamp::from_duration(since_epoch).map_err(describe);
    }
    let (Some(text), Some(format)) = (value.as_str(), format) else {
        return Err(invalid(format!("{value} is no date: expected seconds since the epoch")));
    };
    let parsed = strtime::parse(format, text).map_err(describe)?;
    let date = parsed.to_date().map_err(describe)?;
    let time = parsed.to_time().unwrap_or(Time::midnight());
    parsed.offset().unwrap_or(Offset::UTC).to_timestamp(date.to_datetime(time)).map_err(describe)
}

fn days_ago(start: Value, end: Value, format: Option<String>, kwargs: Kwargs) -> Result<i64, Error> {
    let format = format.or(kwargs.get("date_format")?).unwrap_or_else(|| "%d-%m-%Y".to_owned());
    kwargs.assert_all_used()?;
    let between = timestamp(&end, Some(&format))?.duration_since(timestamp(&start, Some(&format))?);
    Ok((between.as_nanos().div_euclid(86_400_000_000_000)) as i64)
}

fn format_date(date: Timestamp, format: &str) -> Result<String, Error> {
    strtime::format(format, Offset::UTC.to_datetime(date))
        .map_err(|error| invalid(format!("cannot format a date as `{format}`: {error}")))
}

fn get_start_date(date: Value, format: Option<String>, kwargs: Kwargs) -> Result<String, Error> {
    let format = format.or(kwargs.get("date_format")?).unwrap_or_else(|| "%Y-%m-%d".to_owned());
    kwargs.assert_all_used()?;
    format_date(timestamp(&date, None)?, &format)
}

fn get_end_date(date: Value, days: Option<f64>, format: Option<String>, kwargs: Kwargs) -> Result<String, Error> {
    let days = days.or(kwargs.get("duration_days")?).unwrap_or(1.0);
    let format = format.or(kwargs.get("date_format")?).unwrap_or_else(|| "%Y-%m-%d".to_owned());
    kwargs.assert_all_used()?;
    let too_far = |error: jiff::Error| invalid(format!("{days} days after {date} is out of range: {error}"));
    let length = SignedDuration::try_from_secs_f64(days * 86_400.0).map_err(too_far)?;
    format_date(timestamp(&date, None)?.checked_add(length).map_err(too_far)?, &format)
}
