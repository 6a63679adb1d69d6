//! The media types of bodies, which depend on what the cluster under test is.

use http::HeaderValue;
use serde_json::Value;

/// How bodies are announced to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// As plain JSON, the only way that OpenSearch and Elasticsearch before version 8 understand.
    Plain,
    /// As bodies of the API of Elasticsearch 8, as long as nobody knows what the cluster is.
    #[default]
    Version8,
    /// As bodies of the API of Elasticsearch 9. Later versions know it, too, as each knows the one before.
    Version9,
}

impl MediaTypes {
    /// What servers of a version understand, such as `8.15.0`. A version that is no number is that of a serverless project.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        match version.split('.').next().and_then(|major| major.parse::<u64>().ok()) {
            Some(..8) => Self::Plain,
            Some(8) | None => Self::Version8,
            Some(9..) => Self::Version9,
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
        HeaderValue::from_static(match self {
            Self::Plain => "application/json",
            Self::Version8 => "application/vnd.elasticsearch+json; compatible-with=8",
            Self::Version9 => "application/vnd.elasticsearch+json; compatible-with=9",
        })
    }

    /// The type of a body that is lines of JSON.
    pub(super) fn ndjson(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Plain => "application/x-ndjson",
            Self::Version8 => "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
            Self::Version9 => "application/vnd.elasticsearch+x-ndjson; compatible-with=9",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_spoken_to_as_its_answer_says() {
        for (version, expected) in [
            (json!({ "number": "8.15.0", "build_flavor": "default" }), MediaTypes::Version8),
            (json!({ "number": "9.0.1" }), MediaTypes::Version9),
            (json!({ "number": "10.0.0" }), MediaTypes::Version9),
            (json!({ "number": "7.17.9" }), MediaTypes::Plain),
            (json!({ "number": "2.11.0", "distribution": "opensearch" }), MediaTypes::Plain),
            // OpenSearch may be told to pretend to be Elasticsearch.
            (json!({ "number": "8.10.2", "distribution": "opensearch" }), MediaTypes::Plain),
            (json!({ "number": "serverless" }), MediaTypes::Version8),
            (json!({}), MediaTypes::Version8),
        ] {
            assert_eq!(MediaTypes::of_cluster(&json!({ "version": version })), expected, "{version}");
        }
        assert_eq!(MediaTypes::of_cluster(&json!("nginx")), MediaTypes::default());
    }
}
