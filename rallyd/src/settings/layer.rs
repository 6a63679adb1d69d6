//! One layer of settings, as a source of the `config` crate.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::ini::{Entry, Ini};
use super::keys::{self, Key};
use super::{Notice, Origin, SettingsError};
use crate::secret::Secret;

/// The settings that can be given as flags; `None` leaves them to the layers below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--node-ip`
    pub node_ip: Option<String>,
    /// `--coordinator-ip`
    pub coordinator_ip: Option<String>,
    /// `--port`
    pub port: Option<String>,
    /// `--token`
    pub token: Option<Secret>,
}

/// Checked text by section and key, with the place each came from.
///
/// Keys keep their dots: the `config` crate sees one table per section, not a path, since Rally has both
/// `source.cache` and `source.cache.days`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    sections: BTreeMap<String, BTreeMap<String, (String, Origin)>>,
}

impl Layer {
    pub(crate) fn from_flags(flags: &Flags) -> Result<Self, SettingsError> {
        let mut layer = Self::default();
        for (flag, name, value) in [
            ("--node-ip", "node.ip", flags.node_ip.as_deref()),
            ("--coordinator-ip", "coordinator.ip", flags.coordinator_ip.as_deref()),
            ("--port", "port", flags.port.as_deref()),
            ("--token", "join.token", flags.token.as_ref().map(Secret::reveal)),
        ] {
            if let (Some(value), Some(key)) = (value, keys::find("cluster", name)) {
                layer.insert(key, name, value.to_owned(), Origin::Flag(flag))?;
            }
        }
        Ok(layer)
    }

    /// A variable that is set to nothing counts as not set.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let mut layer = Self::default();
        for &(name, section, key_name) in keys::ENVIRONMENT {
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
            let value = value.into_string().map_err(|_| SettingsError::NotUnicode(name))?;
            if let Some(key) = keys::find(section, key_name) {
                layer.insert(key, key_name, value, Origin::Variable(name))?;
            }
        }
        Ok(layer)
    }

    /// Unknown sections and keys become notices. A key without a value counts as not set, as in Rally's own file.
    pub(crate) fn from_ini(path: &Path, ini: Ini) -> Result<(Self, Vec<Notice>), SettingsError> {
        let mut layer = Self::default();
        let mut notices = Vec::new();
        for section in ini.sections {
            if !keys::is_section(&section.name) {
                let hint = did_you_mean(keys::similar_section(&section.name).map(|name| format!("[{name}]")));
                let (path, line, name) = (path.display(), section.line, &section.name);
                notices.push(Notice::Warning(format!("{path}, line {line}: section [{name}] is not known{hint}")));
                continue;
            }
            for Entry { key: name, value, line } in section.entries {
                let place = format!("{}, line {line}: key `{name}` in [{}]", path.display(), section.name);
                match keys::find(&section.name, &name) {
                    None => {
                        let similar = keys::similar_key(&section.name, &name).map(|name| format!("`{name}`"));
                        notices.push(Notice::Warning(format!("{place} is not known{}", did_you_mean(similar))));
                    }
                    Some(key) if key.idle => notices.push(Notice::Info(format!("{place} has no effect here"))),
                    Some(_) if value.is_empty() => {}
                    Some(key) => layer.insert(key, &name, value, Origin::File { path: path.to_owned(), line })?,
                }
            }
        }
        Ok((layer, notices))
    }

    pub(crate) fn contains(&self, section: &str, key: &str) -> bool {
        self.sections.get(section).is_some_and(|keys| keys.contains_key(key))
    }

    /// `name` is what `key` was found by; they differ where the key's name has a `*`.
    fn insert(&mut self, key: &Key, name: &str, value: String, origin: Origin) -> Result<(), SettingsError> {
        if !key.kind.allows(&value) {
            return Err(SettingsError::Value {
                origin,
                section: key.section.to_owned(),
                key: name.to_owned(),
                value: if key.secret { "…".to_owned() } else { value },
                expected: key.kind.expected(),
            });
        }
        self.sections.entry(key.section.to_owned()).or_default().insert(name.to_owned(), (value, origin));
        Ok(())
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let value = |(text, origin): &(String, Origin)| Value::new(Some(&origin.to_string()), text.clone());
        let table = |keys: &BTreeMap<String, (String, Origin)>| {
            let table = keys.iter().map(|(key, entry)| (key.clone(), value(entry))).collect();
            Value::new(None, ValueKind::Table(table))
        };
        Ok(self.sections.iter().map(|(section, keys)| (section.clone(), table(keys))).collect())
    }
}

fn did_you_mean(similar: Option<String>) -> String {
    similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"))
}
