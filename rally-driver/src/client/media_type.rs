//! The media types of bodies, which depend on what the cluster under test is.

use http::HeaderValue;
use serde_json::Value;

/// The oldest and the newest version of Elasticsearch's API that is asked for. Each server knows its own and the one before.
const VERSIONS: (u64, u64) = (8, 9);

/// How bodies are announced to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaTypes {
    /// With the version of the API that is meant, as Elasticsearch knows it since version 8: 8 or 9.
    CompatibleWith(u64),
    /// As plain JSON, the only way that OpenSearch and older versions of Elasticsearch understand.
    Plain,
}

impl Default for MediaTypes {
    /// What is sent as long as nobody knows what the cluster is.
    fn default() -> Self {
        Self::CompatibleWith(VERSIONS.0)
    }
}

impl MediaTypes {
    /// What servers of a version understand, such as `8.15.0`. A version that is no number is that of a serverless project.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        let (oldest, newest) = VERSIONS;
        match version.split('.').next().and_then(|major| major.parse::<u64>().ok()) {
            None => Self::default(),
            Some(major) if major < oldest => Self::Plain,
            Some(major) => Self::CompatibleWith(major.min(newest)),
        }
    }

    /// What a cluster understands, given its answer to `GET /`.
    #[must_use]
    pub fn of_cluster(root: &Value) -> Self {
        let version = |key: &str| root.get("version")?.get(key)?.as_str();
        if version("distribution") == Some("opensearch") {
            return Self::Plain;
        }
        version("number").map(Self::of_version).unwrap_or_default()
    }

    /// The type of a body that is JSON.
    pub(super) fn json(self) -> HeaderValue {
        self.named("json")
    }

    /// The type of a body that is lines of JSON.
    pub(super) fn ndjson(self) -> HeaderValue {
        self.named("x-ndjson")
    }

    fn named(self, kind: &str) -> HeaderValue {
        let text = match self {
            Self::CompatibleWith(version) => {
                format!("application/vnd.elasticsearch+{kind}; compatible-with={version}")
            }
            Self::Plain => format!("application/{kind}"),
        };
        HeaderValue::try_from(text).expect("visible characters only")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_spoken_to_as_its_answer_says() {
        for (version, expected) in [
            (json!({ "number": "8.15.0", "build_flavor": "default" }), MediaTypes::CompatibleWith(8)),
            (json!({ "number": "9.0.1" }), MediaTypes::CompatibleWith(9)),
            (json!({ "number": "10.0.0" }), MediaTypes::CompatibleWith(9)),
            (json!({ "number": "7.17.9" }), MediaTypes::Plain),
            (json!({ "number": "2.11.0", "distribution": "opensearch" }), MediaTypes::Plain),
            // OpenSearch may be told to pretend to be Elasticsearch.
            (json!({ "number": "8.10.2", "distribution": "opensearch" }), MediaTypes::Plain),
            (json!({ "number": "serverless" }), MediaTypes::CompatibleWith(8)),
            (json!({}), MediaTypes::CompatibleWith(8)),
        ] {
            assert_eq!(MediaTypes::of_cluster(&json!({ "version": version })), expected, "{version}");
        }
        assert_eq!(MediaTypes::of_cluster(&json!("nginx")), MediaTypes::default());
    }
}
