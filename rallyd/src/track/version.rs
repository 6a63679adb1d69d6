//! Which branch or tag of a repository fits a version of Elasticsearch.

/// A version or a branch name: `8`, `8.3`, `8.3.1` or `8.3.1-SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
    suffix: Option<String>,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (numbers, suffix) = match text.split_once('-') {
            Some((numbers, suffix)) => (numbers, Some(suffix.to_owned())),
            None => (text, None),
        };
        let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
        let version =
            Self { major: parts.next()??, minor: parts.next().flatten(), patch: parts.next().flatten(), suffix };
        let dots = numbers.matches('.').count();
        let known = usize::from(version.minor.is_some()) + usize::from(version.patch.is_some());
        // A suffix only ever follows a patch.
        (dots == known && (version.suffix.is_none() || version.patch.is_some())).then_some(version)
    }

    /// The version as written, without its suffix, as a minor, as a major.
    fn variants(&self, text: &str) -> Vec<String> {
        let major = self.major.to_string();
        let mut variants = vec![text.to_owned()];
        if let Some(minor) = self.minor {
            if let Some(patch) = self.patch {
                variants.push(format!("{major}.{minor}.{patch}"));
            }
            variants.push(format!("{major}.{minor}"));
        }
        variants.push(major);
        variants.dedup();
        variants
    }
}

/// Finds the branch that fits a version best.
///
/// From the most specific to the least: the version itself, without its suffix, its minor, the nearest minor before it,
/// its major. A version newer than all branches, `serverless` and no version at all get `master`. None if nothing fits.
#[must_use]
pub fn best_match(branches: &[String], version: Option<&str>) -> Option<String> {
    let Some(text) = version.filter(|text| !text.is_empty() && *text != "serverless") else {
        return Some("master".to_owned());
    };
    let version = Version::parse(text)?;
    let major = version.major.to_string();
    for variant in version.variants(text) {
        if variant == major
            && let Some(minor) = version.minor
            && let Some(nearest) = nearest_minor(branches, version.major, minor)
        {
            return Some(format!("{major}.{nearest}"));
        }
        if branches.contains(&variant) {
            return Some(variant);
        }
    }
    let latest = branches.iter().filter_map(|branch| Version::parse(branch)).map(|branch| branch.major).max();
    latest.is_none_or(|latest| version.major > latest).then(|| "master".to_owned())
}

fn nearest_minor(branches: &[String], major: u64, at_most: u64) -> Option<u64> {
    let branches = branches.iter().filter_map(|branch| Version::parse(branch));
    branches
        .filter(|branch| branch.major == major && branch.patch.is_none())
        .filter_map(|branch| branch.minor)
        .filter(|minor| *minor <= at_most)
        .max()
}

/// Tags that fit a version, from the most specific to the least.
pub(super) fn tags(version: &str) -> Vec<String> {
    let variants = Version::parse(version).map(|parsed| parsed.variants(version)).unwrap_or_default();
    variants.into_iter().map(|variant| format!("v{variant}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_branch_wins() {
        let branches =
            ["1.7", "2", "5.0.0-alpha1", "5", "5.4", "6.1.2", "6", "7.1", "7.11.2", "7.2", "7", "8.3", "master"]
                .map(str::to_owned);
        for (version, expected) in [
            ("6.1.2", Some("6.1.2")),
            ("6.0.0-alpha1", Some("6")),
            ("5.0.0-alpha1", Some("5.0.0-alpha1")),
            ("5.3.9", Some("5")),
            ("5.9.1", Some("5.4")),
            ("7.10.2", Some("7.2")),
            ("7.11.2", Some("7.11.2")),
            ("7.2.0", Some("7.2")),
            ("7.0.1", Some("7")),
            ("8.3.0-SNAPSHOT", Some("8.3")),
            ("8.12.0", Some("8.3")),
            ("8.1.0", None),
            ("9.0.0", Some("master")),
            ("1.0.0", None),
            ("serverless", Some("master")),
            ("", Some("master")),
            ("latest", None),
        ] {
            assert_eq!(best_match(&branches, Some(version)).as_deref(), expected, "{version}");
        }
        assert_eq!(best_match(&[], None).as_deref(), Some("master"));
    }

    #[test]
    fn tags_begin_with_a_v() {
        assert_eq!(tags("8.3.1-rc1"), ["v8.3.1-rc1", "v8.3.1", "v8.3", "v8"]);
    }
}
