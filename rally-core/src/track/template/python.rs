//! Values that behave as they do in Python: dicts that can change, `range`, and how numbers and containers are printed.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// No text of a single value may become longer than this, in bytes.
const MAX_VALUE_TEXT: usize = 16 << 20;

/// Containers within containers, beyond which a value is refused.
const MAX_NESTING: usize = 100;

/// Turns JSON into a value of a template, which can be changed as in Python.
pub(crate) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(value) => Value::from(value.as_str()),
        serde_json::Value::Array(values) => List::from_items(values.iter().map(from_json)).into(),
        serde_json::Value::Object(entries) => {
            Dict::from_entries(entries.iter().map(|(key, value)| (Value::from(key.as_str()), from_json(value)))).into()
        }
    }
}

/// A dict that can be changed, with its keys in order of insertion.
///
/// The engine's own maps cannot change. Tracks call `copy` and `update` for their effect, so whatever comes from the
/// user and whatever `copy` or `dict` returns is one of these.
#[derive(Debug, Default)]
pub(crate) struct Dict(Mutex<IndexMap<Value, Value>>);

impl From<Dict> for Value {
    fn from(dict: Dict) -> Self {
        Self::from_object(dict)
    }
}

impl Dict {
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (Value, Value)>) -> Self {
        Self(Mutex::new(entries.into_iter().collect()))
    }

    fn entries(&self) -> MutexGuard<'_, IndexMap<Value, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert_all(self: &Arc<Self>, state: &State<'_, '_>, new: Vec<(Value, Value)>) -> Result<(), Error> {
        for (_, value) in &new {
            refuse_cycle(self, state, value, 0)?;
        }
        self.entries().extend(new);
        Ok(())
    }
}

/// Something within itself could neither be printed nor compared nor dropped.
fn refuse_cycle<T: Object + 'static>(
    container: &Arc<T>,
    state: &State<'_, '_>,
    value: &Value,
    depth: usize,
) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq) || value.downcast_object_ref::<Range>().is_some() {
        return Ok(());
    }
    state.consume_fuel(1)?;
    if depth >= MAX_NESTING {
        return Err(too_deep());
    }
    if value.downcast_object_ref::<T>().is_some_and(|inner| std::ptr::eq(inner, Arc::as_ptr(container))) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a list or a dict cannot contain itself"));
    }
    for item in value.try_iter()? {
        let inner = if value.kind() == ValueKind::Map { value.get_item(&item)? } else { item };
        refuse_cycle(container, state, &inner, depth + 1)?;
    }
    Ok(())
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.entries().get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries().keys().cloned().collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries().len())
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "update" => {
                let (sources, named): (&[Value], Kwargs) = from_args(args)?;
                self.insert_all(state, all_pairs(sources, &named)?)?;
                Ok(Value::from(()))
            }
            "pop" => {
                let (key, default): (Value, &[Value]) = from_args(args)?;
                self.entries()
                    .shift_remove(&key)
                    .or_else(|| default.first().cloned())
                    .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("the dict has no key {key:?}")))
            }
            "setdefault" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                if let Some(value) = self.get_value(&key) {
                    return Ok(value);
                }
                let value = default.unwrap_or(Value::from(()));
                self.insert_all(state, vec![(key, value.clone())])?;
                Ok(value)
            }
            "clear" => {
                let () = from_args(args)?;
                self.entries().clear();
                Ok(Value::from(()))
            }
            _ => Err(ErrorKind::UnknownMethod.into()),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

/// A list that can be changed.
#[derive(Debug, Default)]
pub(crate) struct List(Mutex<Vec<Value>>);

impl From<List> for Value {
    fn from(list: List) -> Self {
        Self::from_object(list)
    }
}

impl List {
    pub(crate) fn from_items(items: impl IntoIterator<Item = Value>) -> Self {
        Self(Mutex::new(items.into_iter().collect()))
    }

    fn items(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(self: &Arc<Self>, state: &State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "append" => {
                let (item,): (Value,) = from_args(args)?;
                refuse_cycle(self, state, &item, 0)?;
                self.items().push(item);
            }
            "extend" => {
                let (source,): (Value,) = from_args(args)?;
                let new: Vec<Value> = source.try_iter()?.collect();
                new.iter().try_for_each(|item| refuse_cycle(self, state, item, 0))?;
                self.items().extend(new);
            }
            "insert" => {
                let (index, item): (i64, Value) = from_args(args)?;
                refuse_cycle(self, state, &item, 0)?;
                let mut items = self.items();
                let index = position(index, items.len()).clamp(0, items.len());
                items.insert(index, item);
            }
            "remove" => {
                let (wanted,): (Value,) = from_args(args)?;
                let items = self.items().clone();
                let index = items
                    .iter()
                    .position(|item| *item == wanted)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{wanted:?} is not in the list")))?;
                self.items().remove(index);
            }
            "pop" => {
                let (index,): (Option<i64>,) = from_args(args)?;
                let mut items = self.items();
                let index = position(index.unwrap_or(-1), items.len());
                if index >= items.len() {
                    return Err(Error::new(ErrorKind::InvalidOperation, "there is nothing at this place of the list"));
                }
                return Ok(items.remove(index));
            }
            "clear" => self.items().clear(),
            "reverse" => self.items().reverse(),
            _ => return Err(ErrorKind::UnknownMethod.into()),
        }
        Ok(Value::from(()))
    }
}

/// An index that may count from the end, as an index from the beginning. Out of range, it is at least `length`, or 0.
fn position(index: i64, length: usize) -> usize {
    let distance = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    if index < 0 { length.saturating_sub(distance) } else { distance }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items().get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items().clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items().len())
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        self.change(state, method, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

/// What `dict.update` and `dict` accept: a map, keyword arguments, or pairs.
pub(crate) fn pairs_of(source: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    for item in source.try_iter()? {
        if source.kind() == ValueKind::Map {
            let value = source.get_item(&item)?;
            pairs.push((item, value));
        } else {
            pairs.push((item.get_item(&Value::from(0))?, item.get_item(&Value::from(1))?));
        }
    }
    Ok(pairs)
}

/// All pairs of some sources and of keyword arguments.
fn all_pairs(sources: &[Value], named: &Kwargs) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    for source in sources {
        pairs.extend(pairs_of(source)?);
    }
    for name in named.args() {
        pairs.push((Value::from(name), named.get(name)?));
    }
    Ok(pairs)
}

/// The function `dict`, of a map or pairs, and keyword arguments.
pub(crate) fn dict(state: &State<'_, '_>, sources: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let pairs = all_pairs(&sources, &named)?;
    pairs.iter().try_for_each(|(key, value)| {
        charge_size(state, key)?;
        charge_size(state, value)
    })?;
    Ok(Dict::from_entries(pairs).into())
}

/// What the function `range` returns: numbers from `start` in steps, `length` of them.
#[derive(Debug)]
pub(crate) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: usize,
}

impl Range {
    /// The function `range`.
    pub(crate) fn call(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, stop) = second.map_or((0, first), |second| (first, second));
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Error::new(ErrorKind::InvalidOperation, "the step of a range must not be zero"));
        }
        let distance =
            if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
        let width = i128::from(step.unsigned_abs());
        let length = usize::try_from((distance.max(0) + width - 1) / width)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the range is too long"))?;
        Ok(Value::from_object(Self { start, stop, step, length }))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = i64::try_from(key.as_usize().filter(|index| *index < self.length)?).ok()?;
        Some(Value::from(self.start + index * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range({}, {}", self.start, self.stop)?;
        if self.step != 1 {
            write!(f, ", {}", self.step)?;
        }
        f.write_str(")")
    }
}

/// A float as Python prints it: `10.0`, `1e+16`, `1e-05`.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let mut text = value.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

/// The float in a value, unless it is an integer or something else altogether.
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer()).then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// A value as Python's `str` prints it.
pub(crate) fn text_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable if !is_plainly_printed(value) => {
            let mut text = String::new();
            write_repr(&mut text, value, 0)?;
            Ok(text)
        }
        ValueKind::Number => Ok(as_float(value).map_or_else(|| value.to_string(), float_text)),
        _ => Ok(value.to_string()),
    }
}

fn is_plainly_printed(value: &Value) -> bool {
    value.downcast_object_ref::<Range>().is_some()
}

/// Takes fuel for what looking through a list or a dict costs. One that occurs several times in another counts each time,
/// as it does for whatever compares or prints it: 60 lists within each other can stand for more than can ever be visited.
pub(crate) fn charge_size(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    charge_nested(state, value, 0)
}

fn charge_nested(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq) || is_plainly_printed(value) {
        return Ok(());
    }
    if depth > MAX_NESTING {
        return Err(too_deep());
    }
    state.consume_fuel(1 + value.len().unwrap_or(0) as u64 / 8)?;
    for item in value.try_iter()? {
        charge_nested(state, &item, depth + 1)?;
        if value.kind() == ValueKind::Map {
            charge_nested(state, &value.get_item(&item)?, depth + 1)?;
        }
    }
    Ok(())
}

/// Takes fuel for a text before it is made, and refuses one that is longer than `longest`.
pub(crate) fn charge_text(state: &State<'_, '_>, length: usize, longest: usize) -> Result<(), Error> {
    state.consume_fuel(1 + length as u64 / 64)?;
    refuse_long_text(length, longest)
}

/// No single text may take more than `longest` bytes.
pub(crate) fn refuse_long_text(length: usize, longest: usize) -> Result<(), Error> {
    if length > longest {
        let text = format!("a single text takes more than {} MiB", longest >> 20);
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("more than {MAX_NESTING} lists and dicts within each other"))
}

fn check_length(out: &str) -> Result<(), Error> {
    if out.len() > MAX_VALUE_TEXT {
        let text = format!("a single value takes more than {} MiB as text", MAX_VALUE_TEXT >> 20);
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    Ok(())
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    check_length(out)?;
    if depth > MAX_NESTING {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable if !is_plainly_printed(value) => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &item, depth + 1)?;
                count += 1;
            }
            if tuple && count == 1 {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Number => out.push_str(&text_of(value)?),
        ValueKind::Undefined => out.push_str("Undefined"),
        _ => write!(out, "{value:?}").map_err(Error::from)?,
    }
    Ok(())
}

/// A value as Python's `json.dumps(sort_keys=True)` writes it, safe within HTML, which is what Jinja's `tojson` does.
pub(crate) fn to_json(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, indent, 0)?;
    Ok(out)
}

fn write_json(out: &mut String, value: &Value, indent: Option<usize>, depth: usize) -> Result<(), Error> {
    check_length(out)?;
    if depth > MAX_NESTING {
        return Err(too_deep());
    }
    let line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => match as_float(value) {
            Some(float) if float.is_nan() => out.push_str("NaN"),
            Some(float) if float.is_infinite() => out.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" }),
            _ => out.push_str(&text_of(value)?),
        },
        ValueKind::String => write_json_string(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                entries.push((json_key(&key)?, item));
            }
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(separator);
                }
                line(out, depth + 1);
                write_json_string(out, key);
                out.push_str(": ");
                write_json(out, item, indent, depth + 1)?;
            }
            if !entries.is_empty() {
                line(out, depth);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable if !is_plainly_printed(value) => {
            out.push('[');
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(separator);
                }
                line(out, depth + 1);
                write_json(out, &item, indent, depth + 1)?;
                count += 1;
            }
            if count > 0 {
                line(out, depth);
            }
            out.push(']');
        }
        kind => {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot be written as JSON")));
        }
    }
    Ok(())
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => to_json(key, None),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot be a key in JSON"))),
    }
}

fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\'' | '\0'..='\u{1f}' | '\u{7f}'.. => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing into a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_printed_as_python_prints_them() {
        for (value, expected) in [
            (10.0, "10.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-1e100, "-1e+100"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float_text(value), expected);
        }
    }

    #[test]
    fn json_of_a_filter_is_sorted_ascii_and_safe_in_html() {
        let value = from_json(&serde_json::json!({"b": [1, 2.0, null, true], "a": "é<'\n😀\u{7f}", "c": {}}));
        assert_eq!(
            to_json(&value, None).unwrap(),
            r#"{"a": "\u00e9\u003c\u0027\n\ud83d\ude00\u007f", "b": [1, 2.0, null, true], "c": {}}"#
        );
        assert_eq!(
            to_json(&from_json(&serde_json::json!({"a": [1]})), Some(2)).unwrap(),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
    }

    #[test]
    fn containers_are_printed_as_python_prints_them() {
        let value = from_json(&serde_json::json!({"b": [1, 1e16, null, true, "it's"], "a": {}}));
        assert_eq!(text_of(&value).unwrap(), "{'b': [1, 1e+16, None, True, \"it's\"], 'a': {}}");
        assert_eq!(value.to_string(), text_of(&value).unwrap());
    }
}
