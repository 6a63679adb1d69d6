//! A small index in memory.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// Texts longer than this are found by their words only.
const LONGEST_EXACT: usize = 256;

/// Documents of one index, and where their words and values are.
#[derive(Debug, Default)]
pub(super) struct Index {
    documents: Vec<Document>,
    by_id: HashMap<String, u32>,
    columns: HashMap<String, Column>,
    live: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Document {
    pub(super) id: String,
    pub(super) source: Box<RawValue>,
    /// The values of all fields by dotted path.
    fields: Vec<(String, Value)>,
    /// Whether no newer version took its place.
    live: bool,
}

impl Document {
    /// All values of a field.
    pub(super) fn values<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Value> {
        let field = plain(field);
        self.fields.iter().filter(move |(name, _)| name == field).map(|(_, value)| value)
    }
}

/// One field over all documents.
#[derive(Debug, Default)]
pub(super) struct Column {
    words: HashMap<String, Vec<u32>>,
    exact: HashMap<String, Vec<u32>>,
    numbers: Vec<(u32, f64)>,
}

impl Column {
    /// Documents with a word, in order.
    pub(super) fn with_word(&self, word: &str) -> &[u32] {
        self.words.get(word).map_or(&[], Vec::as_slice)
    }

    /// Documents with exactly this value, in order.
    pub(super) fn with_value(&self, value: &str) -> &[u32] {
        self.exact.get(value).map_or(&[], Vec::as_slice)
    }

    /// Documents with a number that fits, in order.
    pub(super) fn with_number(&self, fits: impl Fn(f64) -> bool) -> Vec<u32> {
        self.numbers.iter().filter(|(_, number)| fits(*number)).map(|(document, _)| *document).collect()
    }

    /// Documents with a text that fits, in order.
    pub(super) fn with_text(&self, fits: impl Fn(&str) -> bool) -> Vec<u32> {
        let mut documents: Vec<u32> =
            self.exact.iter().filter(|(text, _)| fits(text)).flat_map(|(_, documents)| documents).copied().collect();
        documents.sort_unstable();
        documents.dedup();
        documents
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indexed {
    Created,
    Updated,
}

impl Index {
    /// Adds a document, in place of one with the same id.
    pub(super) fn put(&mut self, id: Option<String>, source: Box<RawValue>) -> Result<Indexed, serde_json::Error> {
        let parsed: Value = serde_json::from_str(source.get())?;
        let number = self.documents.len() as u32;
        let id = id.unwrap_or_else(|| format!("{number:020}"));
        let mut fields = Vec::new();
        flatten(String::new(), parsed, &mut fields);
        for (name, value) in &fields {
            self.column(name).add(number, value);
        }
        self.bytes += source.get().len() as u64;
        self.live += 1;
        let before = self.by_id.insert(id.clone(), number);
        self.documents.push(Document { id, source, fields, live: true });
        Ok(match before {
            Some(old) => {
                self.remove(old);
                Indexed::Updated
            }
            None => Indexed::Created,
        })
    }

    /// Removes a document; whether there was one.
    pub(super) fn delete(&mut self, id: &str) -> bool {
        self.by_id.remove(id).inspect(|&number| self.remove(number)).is_some()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    fn remove(&mut self, number: u32) {
        let document = &mut self.documents[number as usize];
        document.live = false;
        self.live -= 1;
        self.bytes -= document.source.get().len() as u64;
    }

    fn column(&mut self, name: &str) -> &mut Column {
        if !self.columns.contains_key(name) {
            self.columns.insert(name.to_owned(), Column::default());
        }
        self.columns.get_mut(name).expect("it is there or was just inserted")
    }

    /// A field that some document has. `.raw` and `.keyword` mean the field itself.
    pub(super) fn field(&self, name: &str) -> Option<&Column> {
        self.columns.get(plain(name))
    }

    pub(super) fn document(&self, number: u32) -> &Document {
        &self.documents[number as usize]
    }

    pub(super) fn is_live(&self, number: u32) -> bool {
        self.documents[number as usize].live
    }

    /// The numbers of all documents, in order.
    pub(super) fn all(&self) -> Vec<u32> {
        (0..self.documents.len() as u32).filter(|&number| self.is_live(number)).collect()
    }

    /// Documents.
    pub(super) fn len(&self) -> u64 {
        self.live
    }

    /// Bytes of all documents.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Column {
    fn add(&mut self, document: u32, value: &Value) {
        let text = match value {
            Value::String(text) => {
                for word in words(text) {
                    push(&mut self.words, word, document);
                }
                text.clone()
            }
            Value::Number(number) => {
                self.numbers.extend(number.as_f64().map(|number| (document, number)));
                number.to_string()
            }
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return,
        };
        if text.len() <= LONGEST_EXACT {
            push(&mut self.exact, text, document);
        }
    }
}

fn push(postings: &mut HashMap<String, Vec<u32>>, key: String, document: u32) {
    let documents = postings.entry(key).or_default();
    if documents.last() != Some(&document) {
        documents.push(document);
    }
}

/// The words of a text, in lower case.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn plain(field: &str) -> &str {
    field.strip_suffix(".raw").or_else(|| field.strip_suffix(".keyword")).unwrap_or(field)
}

fn flatten(path: String, value: Value, fields: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                flatten(if path.is_empty() { key } else { format!("{path}.{key}") }, value, fields);
            }
        }
        Value::Array(values) => {
            for value in values {
                flatten(path.clone(), value, fields);
            }
        }
        Value::Null => {}
        value => fields.push((path, value)),
    }
}
