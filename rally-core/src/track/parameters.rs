//! Track parameters: whether the track takes what the user gives.

use std::collections::BTreeSet;
use std::fmt;

use super::model::JsonObject;

/// Names that templates have from Rally, and users cannot give.
const RESERVED: [&str; 4] = ["build_flavor", "glob", "now", "serverless_operator"];

/// How alike a name must be to be suggested, from 0 to 1.
const LIKENESS: f64 = 0.6;

/// A track parameter that the user gave and should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParameterFault {
    /// The name is taken by Rally.
    Reserved {
        /// The parameter.
        name: String,
    },
    /// The track does not use it.
    Unused {
        /// The parameter.
        name: String,
        /// A parameter of the track with a similar name.
        suggestion: Option<String>,
    },
}

impl fmt::Display for ParameterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved { name } => write!(f, "track parameter `{name}` is set by Rally and cannot be given"),
            Self::Unused { name, suggestion: Some(suggestion) } => {
                write!(f, "track parameter `{name}` is not used by the track, did you mean `{suggestion}`?")
            }
            Self::Unused { name, suggestion: None } => {
                write!(f, "track parameter `{name}` is not used by the track")
            }
        }
    }
}

/// Checks parameters against those that the track exposes: which are unused, and which are reserved. Both are sorted.
pub(crate) fn check(given: &JsonObject, exposed: &BTreeSet<String>) -> (Vec<ParameterFault>, Vec<ParameterFault>) {
    let names: BTreeSet<&String> = given.keys().collect();
    let reserved = |name: &String| RESERVED.contains(&name.as_str());
    let unused = names.iter().filter(|name| !exposed.contains(**name) && !reserved(name));
    (
        unused
            .map(|name| ParameterFault::Unused { name: (*name).clone(), suggestion: suggest(name, exposed) })
            .collect(),
        names
            .iter()
            .filter(|name| reserved(name))
            .map(|name| ParameterFault::Reserved { name: (*name).clone() })
            .collect(),
    )
}

fn suggest(name: &str, exposed: &BTreeSet<String>) -> Option<String> {
    // Hyphens in place of underscores are the most common slip.
    let name = name.replace('-', "_").to_lowercase();
    exposed
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_parameters_are_named_with_what_was_probably_meant() {
        let given = ["number-of-shards", "bulk_sizee", "nonsense", "bulk_size", "now"]
            .map(|name| (name.to_owned(), 1.into()))
            .into_iter()
            .collect();
        let exposed = ["number_of_shards", "number_of_replicas", "bulk_size"].map(str::to_owned).into();
        let (unused, reserved) = check(&given, &exposed);
        assert_eq!(
            unused.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "track parameter `bulk_sizee` is not used by the track, did you mean `bulk_size`?",
                "track parameter `nonsense` is not used by the track",
                "track parameter `number-of-shards` is not used by the track, did you mean `number_of_shards`?",
            ]
        );
        assert_eq!(reserved, [ParameterFault::Reserved { name: "now".to_owned() }]);
    }
}
