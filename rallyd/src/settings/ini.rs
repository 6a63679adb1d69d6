//! `rally.ini`: the dialect of Python's `configparser`, with the line of every key.

use std::collections::BTreeMap;
use std::path::Path;

/// The section whose keys every other section may refer to in `%(name)s`.
const DEFAULT_SECTION: &str = "DEFAULT";

/// How often a value may refer to a value that refers to a value; Python's own limit.
const MAX_INTERPOLATION_DEPTH: usize = 10;

/// A parsed file: every section in order, each with its keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ini {
    pub(crate) sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    /// Counted from one, like every line here.
    pub(crate) line: usize,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// In lower case, as Python has it.
    pub(crate) key: String,
    /// With every reference replaced.
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct IniError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong there.
    pub problem: IniProblem,
}

/// What is wrong with a line of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IniProblem {
    /// A key stands before the first section.
    #[error("`{0}` stands before the first section; a line such as `[cluster]` is expected first")]
    NoSection(String),
    /// A line is neither a section nor a key.
    #[error("`{0}` is neither `[section]` nor `key = value`")]
    NotAnEntry(String),
    /// A section begins a second time.
    #[error("section [{name}] is already on line {first}")]
    RepeatedSection {
        /// The section.
        name: String,
        /// Where it was first.
        first: usize,
    },
    /// A key stands in its section a second time.
    #[error("key `{key}` is already on line {first}")]
    RepeatedKey {
        /// The key.
        key: String,
        /// Where it was first.
        first: usize,
    },
    /// A percent sign is neither doubled nor the start of a reference.
    #[error("a `%` in the value of `{0}` is neither `%%` (a percent sign) nor `%(name)s` (the value of another key)")]
    BadPercent(String),
    /// A reference names no key.
    #[error("the value of `{key}` refers to `{reference}`, which is in neither its section nor [DEFAULT]")]
    UnknownReference {
        /// The key.
        key: String,
        /// What it refers to.
        reference: String,
    },
    /// References go round in a circle, or as good as.
    #[error("the references in the value of `{0}` are nested too deeply")]
    TooDeep(String),
}

impl Ini {
    /// Parses `text`, with `${CONFIG_DIR}` standing for `config_directory` and `$$` for a dollar sign.
    ///
    /// Any other dollar sign stays as it is: a password needs no care as long as it does not hold these two.
    pub(crate) fn parse(text: &str, config_directory: &Path) -> Result<Self, IniError> {
        let mut ini = Self::split(text)?;
        for entry in ini.sections.iter_mut().flat_map(|section| &mut section.entries) {
            entry.value = substitute(&entry.value, config_directory);
        }
        let defaults = ini.values_of(DEFAULT_SECTION);
        for section in &mut ini.sections {
            let mut values = defaults.clone();
            values.extend(section.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())));
            for entry in &mut section.entries {
                entry.value = interpolate(&entry.key, &entry.value, &values, MAX_INTERPOLATION_DEPTH)
                    .map_err(|problem| IniError { line: entry.line, problem })?;
            }
        }
        ini.sections.retain(|section| section.name != DEFAULT_SECTION);
        Ok(ini)
    }

    /// Finds sections, keys and continuation lines; values stay as they were written.
    fn split(text: &str) -> Result<Self, IniError> {
        let mut ini = Self::default();
        // The indentation of the key that the next, deeper indented lines continue.
        let mut continues: Option<usize> = None;
        for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = index + 1;
            let error = |problem| Err(IniError { line, problem });
            let content = raw.trim();
            if content.starts_with(['#', ';']) {
                continue;
            }
            let indentation = raw.len() - raw.trim_start().len();
            let open = ini.sections.last_mut().and_then(|section| section.entries.last_mut());
            if let (Some(key_indentation), Some(entry)) = (continues, open)
                && (content.is_empty() || indentation > key_indentation)
            {
                entry.value.push('\n');
                entry.value.push_str(content);
                continue;
            }
            if content.is_empty() {
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')).map(|(name, _)| name) {
                if let Some(first) = ini.sections.iter().find(|section| section.name == name) {
                    return error(IniProblem::RepeatedSection { name: name.to_owned(), first: first.line });
                }
                ini.sections.push(Section { name: name.to_owned(), line, entries: Vec::new() });
                continues = None;
                continue;
            }
            let Some((key, value)) = content.split_once(['=', ':']).filter(|(key, _)| !key.trim().is_empty()) else {
                return error(IniProblem::NotAnEntry(content.to_owned()));
            };
            let key = key.trim().to_lowercase();
            let Some(section) = ini.sections.last_mut() else {
                return error(IniProblem::NoSection(key));
            };
            if let Some(first) = section.entries.iter().find(|entry| entry.key == key) {
                return error(IniProblem::RepeatedKey { key, first: first.line });
            }
            section.entries.push(Entry { key, value: value.trim().to_owned(), line });
            continues = Some(indentation);
        }
        for entry in ini.sections.iter_mut().flat_map(|section| &mut section.entries) {
            entry.value.truncate(entry.value.trim_end().len());
        }
        Ok(ini)
    }

    fn values_of(&self, name: &str) -> BTreeMap<String, String> {
        let section = self.sections.iter().find(|section| section.name == name);
        let entries = section.into_iter().flat_map(|section| &section.entries);
        entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    }
}

fn substitute(value: &str, config_directory: &Path) -> String {
    let mut result = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix("{CONFIG_DIR}") {
            result.push_str(&config_directory.to_string_lossy());
            rest = after;
        } else {
            result.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    result + rest
}

fn interpolate(key: &str, value: &str, values: &BTreeMap<String, String>, depth: usize) -> Result<String, IniProblem> {
    let mut result = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            result.push('%');
            rest = after;
            continue;
        }
        let Some((name, after)) = after.strip_prefix('(').and_then(|after| after.split_once(")s")) else {
            return Err(IniProblem::BadPercent(key.to_owned()));
        };
        let name = name.to_lowercase();
        if depth == 0 {
            return Err(IniProblem::TooDeep(key.to_owned()));
        }
        match values.get(&name) {
            Some(value) => result.push_str(&interpolate(key, value, values, depth - 1)?),
            None => return Err(IniProblem::UnknownReference { key: key.to_owned(), reference: name }),
        }
        rest = after;
    }
    Ok(result + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Ini, IniError> {
        Ini::parse(text, Path::new("/home/u/.rally"))
    }

    fn entries(text: &str) -> Vec<(String, String, String, usize)> {
        let sections = parse(text).expect(text).sections;
        let entry = |section: &str, entry: Entry| (section.to_owned(), entry.key, entry.value, entry.line);
        sections.into_iter().flat_map(|s| s.entries.into_iter().map(move |e| entry(&s.name, e))).collect()
    }

    fn value(text: &str) -> String {
        entries(text).pop().expect("an entry").2
    }

    #[test]
    fn keys_keep_their_dots_and_lines() {
        let text = "# comment\n[node]\nRoot.Dir = /data\n\n; comment\nsrc.root.dir: /src\n[cluster]\nport=1901\n";
        let expected =
            [("node", "root.dir", "/data", 3), ("node", "src.root.dir", "/src", 6), ("cluster", "port", "1901", 8)];
        let expected = expected.map(|(s, k, v, line)| (s.to_owned(), k.to_owned(), v.to_owned(), line));
        assert_eq!(entries(text), expected);
    }

    #[test]
    fn deeper_lines_continue_a_value_and_comments_between_them_do_not() {
        assert_eq!(value("[s]\nk = a\n  b = c\n# no\n\n\td\n\n"), "a\nb = c\n\nd");
        assert_eq!(entries("[s]\n  k = a\n  l = b\n").len(), 2);
        assert_eq!(value("[s]\nk = a ; not a comment\n"), "a ; not a comment");
        assert_eq!(value("[s]\r\nk = a\r\n"), "a");
    }

    #[test]
    fn dollars_and_percents_are_replaced() {
        for (text, expected) in [
            ("[s]\nk = ${CONFIG_DIR}/x", "/home/u/.rally/x"),
            ("[s]\nk = $${CONFIG_DIR}", "${CONFIG_DIR}"),
            ("[s]\nk = a$b", "a$b"),
            ("[s]\nk = 100%%", "100%"),
            ("[s]\na = 1\nk = %(A)s-%(a)s", "1-1"),
            ("[DEFAULT]\nd = %(e)s\ne = 2\n[s]\nk = %(d)s", "2"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_line_is_named_with_its_problem() {
        for (text, message) in [
            ("k = 1", "line 1: `k` stands before the first section; a line such as `[cluster]` is expected first"),
            ("[s]\nnonsense", "line 2: `nonsense` is neither `[section]` nor `key = value`"),
            ("[s]\n= 1", "line 2: `= 1` is neither `[section]` nor `key = value`"),
            ("[s]\n[s]", "line 2: section [s] is already on line 1"),
            ("[s]\nk = 1\nK = 2", "line 3: key `k` is already on line 2"),
            ("[s]\nk = %(x)s", "line 2: the value of `k` refers to `x`, which is in neither its section nor [DEFAULT]"),
            ("[s]\nk = %(k)s", "line 2: the references in the value of `k` are nested too deeply"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
        assert_eq!(parse("[s]\nk = 5%").expect_err("bad").problem, IniProblem::BadPercent("k".to_owned()));
    }
}
