//! What Elasticsearch is told about the documents, before it gets any.

use serde_json::{Value, json};

use super::StoreSettings;

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metrics,
    Races,
    Results,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Metrics, Self::Races, Self::Results];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Metrics => "rally-metrics",
            Self::Races => "rally-races",
            Self::Results => "rally-results",
        }
    }

    /// Where documents of a race go; the month is that of the race.
    pub(super) fn target(self, settings: &StoreSettings, race_timestamp: &str) -> String {
        match (race_timestamp.get(..4), race_timestamp.get(4..6)) {
            (Some(year), Some(month)) if !settings.use_data_streams => format!("{}-{year}-{month}", self.name()),
            _ => self.stream(),
        }
    }

    pub(super) fn stream(self) -> String {
        format!("{}-v1", self.name())
    }

    fn mappings(self) -> Value {
        let keyword = json!({"type": "keyword"});
        let with = |fields: &[&str], kind: &Value| -> Vec<(String, Value)> {
            fields.iter().map(|field| ((*field).to_owned(), kind.clone())).collect()
        };
        let timestamp = json!({
            "type": "date",
            // The same twice: not every server that speaks the API knows the name.
            "format": "basic_date_time_no_millis||yyyyMMdd'T'HHmmssX",
            "fields": {"raw": {"type": "keyword"}},
        });
        let mut properties = vec![
            ("@timestamp".to_owned(), json!({"type": "date", "format": "epoch_millis"})),
            ("race-timestamp".to_owned(), timestamp),
        ];
        let keywords: &[&str] = match self {
            Self::Metrics => &[
                "car",
                "challenge",
                "environment",
                "job",
                "name",
                "operation",
                "operation-type",
                "race-id",
                "sample-type",
                "task",
                "track",
                "unit",
            ],
            Self::Races => &["car", "challenge", "environment", "pipeline", "race-id", "rally-version", "track"],
            Self::Results => {
                &["car", "challenge", "environment", "name", "operation", "race-id", "rally-version", "task", "track"]
            }
        };
        properties.extend(with(keywords, &keyword));
        match self {
            Self::Metrics => {
                let float = json!({"type": "float"});
                properties.extend(with(&["max", "mean", "median", "min", "relative-time", "value"], &float));
                let description = json!({"properties": {"error-description": {"type": "wildcard"}}});
                properties.push(("meta".to_owned(), description));
            }
            Self::Races => {
                properties.push(("results".to_owned(), json!({"properties": {"op_metrics": {"type": "nested"}}})));
            }
            Self::Results => {
                properties.push(("active".to_owned(), json!({"type": "boolean"})));
                properties.push(("distribution-major-version".to_owned(), json!({"type": "short"})));
                let double = json!({"type": "double"});
                let values = with(&["single", "min", "mean", "median", "max"], &double);
                let values: serde_json::Map<_, _> = values.into_iter().collect();
                properties.push(("value".to_owned(), json!({"properties": values})));
            }
        }
        let properties: serde_json::Map<_, _> = properties.into_iter().collect();
        let mut text = json!({"type": "keyword"});
        if self == Self::Metrics {
            text["ignore_above"] = json!(8191);
        }
        json!({
            "dynamic_templates": [{"strings": {"match": "*", "match_mapping_type": "string", "mapping": text}}],
            "date_detection": false,
            "properties": properties,
        })
    }
}

/// Something that the cluster must know, and whether one that is there may be replaced.
pub(super) struct Resource {
    pub(super) path: String,
    pub(super) body: Value,
    pub(super) may_replace: bool,
}

/// Everything that the cluster must know, in order. Without index lifecycle management, data streams never roll over.
pub(super) fn resources(settings: &StoreSettings, has_lifecycles: bool) -> Vec<Resource> {
    let may_replace = settings.overwrite_existing_templates;
    let resource = |path: String, body: Value| Resource { path, body, may_replace };
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let (name, stream) = (kind.name(), kind.stream());
        let mut index = serde_json::Map::new();
        if kind == Kind::Metrics {
            index.insert("mapping.total_fields.limit".to_owned(), json!(2000));
        }
        if !settings.use_data_streams {
            if let Some(shards) = settings.number_of_shards {
                index.insert("number_of_shards".to_owned(), json!(shards));
            }
            if let Some(replicas) = settings.number_of_replicas {
                index.insert("number_of_replicas".to_owned(), json!(replicas));
            }
            let template = json!({"settings": {"index": index}, "mappings": kind.mappings()});
            let body = json!({"index_patterns": [format!("{name}-*")], "priority": 100, "template": template});
            all.push(resource(format!("/_index_template/{name}"), body));
            continue;
        }
        if has_lifecycles {
            let policy = format!("{name}-default");
            let rollover = json!({"rollover": {"max_primary_shard_size": "50gb"}});
            let body = json!({"policy": {"phases": {"hot": {"actions": rollover}}}});
            all.push(resource(format!("/_ilm/policy/{policy}"), body));
            index.insert("lifecycle.name".to_owned(), json!(policy));
        }
        let template = json!({"settings": {"index": index}, "mappings": kind.mappings()});
        all.push(resource(format!("/_component_template/{stream}"), json!({"template": template})));
        // For the user's own mappings and settings.
        let custom = format!("{stream}@custom");
        let path = format!("/_component_template/{}", custom.replace('@', "%40"));
        all.push(Resource { path, body: json!({"template": {}}), may_replace: false });
        let body = json!({
            "index_patterns": [stream],
            "data_stream": {},
            "composed_of": [stream, custom],
            "priority": 500,
        });
        all.push(resource(format!("/_index_template/{stream}"), body));
    }
    all
}
