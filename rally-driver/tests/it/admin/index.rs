//! Indices, data streams and templates.

use serde_json::json;

use super::{check, full_track, streams_track};
use crate::operation::Case;

const SETTINGS: &str = "GET /_cluster/settings";

#[tokio::test]
async fn indices_and_data_streams_are_created() {
    check([
        Case::new(
            "create-index",
            json!({ "index": ["a", "b"], "body": { "mappings": {} }, "request-params": { "timeout": "3s" } }),
        )
        .sends(&[r#"PUT /a?timeout=3s {"mappings": {}}"#, r#"PUT /b?timeout=3s {"mappings": {}}"#])
        .weighs(2),
        Case::new("create-index", json!({ "index": "a" })).sends(&["PUT /a"]),
        Case::new("create-index", json!({})).fails("needs the parameter `index`"),
        // Merging is shallow here.
        Case::new("create-index", json!({ "settings": { "index": { "refresh_interval": "30s" } } }))
            .track(full_track())
            .sends(&[
                r#"PUT /logs {"settings": {"index": {"refresh_interval": "30s"}, "keep": 1}}"#,
                r#"PUT /metrics {"settings": {"index": {"refresh_interval": "30s"}}}"#,
            ])
            .weighs(2),
        Case::new("create-index", json!({ "index": "metrics" })).track(full_track()).sends(&["PUT /metrics {}"]),
        // What is empty chooses and changes nothing.
        Case::new("create-index", json!({ "index": "", "settings": {} }))
            .track(full_track())
            .sends(&[r#"PUT /logs {"settings": {"index": {"number_of_shards": 1}, "keep": 1}}"#, "PUT /metrics {}"])
            .weighs(2),
        Case::new("create-index", json!({ "index": "traces" }))
            .track(full_track())
            .fails("the track declares no index `traces`, only logs, metrics"),
        Case::new("create-index", json!({ "settings": 3 }))
            .track(full_track())
            .fails("`settings` must be an object, not 3"),
        Case::new("create-index", json!({ "index": "a" }))
            .status("PUT /a", 400)
            .sends(&["PUT /a"])
            .fails("HTTP status 400"),
        Case::new("create-data-stream", json!({ "data-stream": "a" })).sends(&["PUT /_data_stream/a"]),
        Case::new("create-data-stream", json!({}))
            .track(streams_track())
            .sends(&["PUT /_data_stream/s1", "PUT /_data_stream/s2"])
            .weighs(2),
        Case::new("create-data-stream", json!({ "data-stream": "s2" }))
            .track(streams_track())
            .sends(&["PUT /_data_stream/s2"]),
        Case::new("create-data-stream", json!({ "data-stream": "s3" }))
            .track(streams_track())
            .fails("the track declares no data-stream `s3`, only s1, s2"),
        Case::new("create-data-stream", json!({})).fails("needs the parameter `data-stream`"),
    ])
    .await;
}

#[tokio::test]
async fn indices_are_deleted_while_wildcards_are_allowed_and_the_setting_is_put_back() {
    check([
        Case::new("delete-index", json!({ "index": ["a", "b"], "request-params": { "timeout": "3s" } }))
            .answer(SETTINGS, json!({ "persistent": {}, "transient": {} }))
            .status("HEAD /b", 404)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "HEAD /a",
                "DELETE /a?timeout=3s",
                "HEAD /b",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ]),
        Case::new("delete-index", json!({ "only-if-exists": false }))
            .track(full_track())
            .answer(SETTINGS, json!({ "transient": { "action.destructive_requires_name": "true" } }))
            .status("DELETE /metrics", 404)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /logs",
                "DELETE /metrics",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": "true"}}"#,
            ])
            .weighs(2),
        Case::new("delete-index", json!({ "index": "a" }))
            .status("DELETE /a", 403)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "HEAD /a",
                "DELETE /a",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .fails("HTTP status 403"),
        Case::new("delete-index", json!({ "index": "a" })).serverless().sends(&["HEAD /a", "DELETE /a"]),
        Case::new("delete-index", json!({})).fails("needs the parameter `index`"),
        Case::new("delete-data-stream", json!({})).track(streams_track()).status("HEAD /s2", 404).sends(&[
            "HEAD /s1",
            "DELETE /_data_stream/s1",
            "HEAD /s2",
        ]),
        Case::new("delete-data-stream", json!({ "data-stream": "a", "only-if-exists": false }))
            .status("DELETE /_data_stream/a", 404)
            .sends(&["DELETE /_data_stream/a"]),
    ])
    .await;
}

#[tokio::test]
async fn templates_are_created_with_the_settings_of_the_operation() {
    check([
        Case::new("create-index-template", json!({ "template": "t", "body": { "index_patterns": ["a*"] } }))
            .sends(&[r#"PUT /_template/t {"index_patterns": ["a*"]}"#]),
        Case::new("create-index-template", json!({ "template": "t" })).fails("needs the parameter `body`"),
        // Of the old kind, those of the track win, and merging is shallow.
        Case::new(
            "create-index-template",
            json!({ "template": "c2", "body": { "order": 1 }, "settings": { "index": { "refresh_interval": "30s" } } }),
        )
        .track(full_track())
        .with_old_templates()
        .sends(&[r#"PUT /_template/c2 {"index_patterns": ["c2-*"], "settings": {"index": {"refresh_interval": "30s"}}}"#]),
        // Merging is deep here.
        Case::new("create-composable-template", json!({ "settings": { "index": { "refresh_interval": "30s" } } }))
            .track(full_track())
            .sends(&[
                r#"PUT /_index_template/c1 {"index_patterns": ["c1-*"], "template": {"settings": {
                    "index": {"number_of_shards": 1, "refresh_interval": "30s"}, "keep": 1}}}"#,
                r#"PUT /_index_template/c2 {"index_patterns": ["c2-*"], "template": {"settings": {
                    "index": {"refresh_interval": "30s"}}}}"#,
            ])
            .weighs(2),
        Case::new("create-composable-template", json!({ "template": "own", "body": { "priority": 1 }, "request-params": { "create": true } }))
            .track(full_track())
            .sends(&[r#"PUT /_index_template/own?create=true {"priority": 1}"#]),
        Case::new("create-composable-template", json!({ "template": "c2", "settings": {} }))
            .track(full_track())
            .sends(&[r#"PUT /_index_template/c2 {"index_patterns": ["c2-*"]}"#]),
        Case::new("create-composable-template", json!({ "template": "c3" }))
            .track(full_track())
            .fails("the track declares no template `c3`, only c1, c2"),
        Case::new("create-composable-template", json!({})).fails("the track declares no template; give `template` and `body`"),
        Case::new("create-component-template", json!({ "settings": { "keep": 2 } }))
            .track(full_track())
            .sends(&[
                r#"PUT /_component_template/part {"template": {"settings": {"index": {"number_of_shards": 1}, "keep": 2}}, "version": 3}"#,
            ]),
        Case::new("create-component-template", json!({ "template": "p", "body": { "template": {} } }))
            .sends(&[r#"PUT /_component_template/p {"template": {}}"#]),
    ])
    .await;
}

#[tokio::test]
async fn templates_are_deleted_with_their_indices() {
    check([
        Case::new("delete-composable-template", json!({}))
            .track(full_track())
            .status("HEAD /_index_template/c2", 404)
            .sends(&[
                "HEAD /_index_template/c1",
                "DELETE /_index_template/c1",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /c1-*",
                "HEAD /_index_template/c2",
                "DELETE /c2-*",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .weighs(5),
        Case::new("delete-composable-template", json!({}))
            .track(full_track())
            .serverless()
            .sends(&[
                "HEAD /_index_template/c1",
                "DELETE /_index_template/c1",
                "HEAD /_index_template/c2",
                "DELETE /_index_template/c2",
            ])
            .weighs(2),
        Case::new("delete-index-template", json!({ "template": "t", "only-if-exists": false }))
            .status("DELETE /_template/t", 404)
            .sends(&["DELETE /_template/t"]),
        Case::new(
            "delete-index-template",
            json!({ "template": "t", "delete-matching-indices": true, "index-pattern": "a-*", "request-params": { "master_timeout": "3s" } }),
        )
        .sends(&[
            "HEAD /_template/t",
            "DELETE /_template/t?master_timeout=3s",
            "GET /_cluster/settings?flat_settings=true",
            r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
            "DELETE /a-*",
            "GET /_cluster/settings?flat_settings=true",
            r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
        ])
        .weighs(4),
        Case::new("delete-index-template", json!({ "template": "c1" }))
            .track(full_track())
            .with_old_templates()
            .status("HEAD /_template/c1", 404)
            .status("DELETE /c1-*", 403)
            .sends(&[
                "HEAD /_template/c1",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /c1-*",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .fails("HTTP status 403"),
        Case::new("delete-index-template", json!({ "template": "t", "delete-matching-indices": true }))
            .fails("needs the parameter `index-pattern`"),
        Case::new("delete-component-template", json!({}))
            .track(full_track())
            .sends(&["HEAD /_component_template/part", "DELETE /_component_template/part"]),
        Case::new("delete-component-template", json!({ "template": "p" }))
            .status("HEAD /_component_template/p", 404)
            .sends(&["HEAD /_component_template/p"])
            .weighs(0),
        Case::new("delete-component-template", json!({ "template": "p" }))
            .track(full_track())
            .fails("the track declares no template `p`, only part"),
    ])
    .await;
}
