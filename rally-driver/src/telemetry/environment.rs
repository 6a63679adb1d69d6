//! What the cluster under test is: version and flavor, and its nodes.

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, elements, entries, object};
use crate::RunnerError;

/// Version, flavor and name of the cluster, as a document `cluster_environment`.
#[derive(Debug)]
pub(super) struct ClusterEnvironment {
    pub(super) is_serverless: bool,
    pub(super) is_operator: bool,
    /// `api_key` or `basic`; none without authentication.
    pub(super) authentication: Option<&'static str>,
}

#[async_trait(?Send)]
impl Device for ClusterEnvironment {
    fn name(&self) -> &'static str {
        "cluster-environment"
    }

    async fn before(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let (info, is_hosted) = cluster.root().await?;
        let version = &info["version"];
        let mut revision = version["build_hash"].clone();
        if self.is_serverless && self.is_operator {
            let nodes = cluster.get("/_nodes").await?;
            let hash = entries(&nodes["nodes"]).find_map(|(_, node)| node.get("build_hash"));
            revision = hash.cloned().unwrap_or(revision);
        }
        let number = if self.is_serverless { json!("serverless") } else { version["number"].clone() };
        // A distribution that does not say is a build of the open source.
        let flavor = version.get("build_flavor").or_else(|| version.get("distribution")).cloned();
        let mut fields = object(json!({
            "cluster": cluster.name,
            "source_revision": revision,
            "distribution_version": number,
            "distribution_flavor": flavor.unwrap_or_else(|| json!("oss")),
            "target_id": info["cluster_name"],
            "target_platform": match (self.is_serverless, is_hosted) {
                (true, _) => "serverless",
                (false, true) => "hosted",
                (false, false) => "on-prem",
            },
        }));
        if let Some(authentication) = self.authentication {
            fields.insert("target_auth_type".to_owned(), json!(authentication));
        }
        records.document("cluster_environment", fields, JsonObject::new());
        Ok(())
    }
}

/// The nodes of the cluster, each as a document `node_environment`; what all of them have in common as a document
/// `shared_node_environment`.
#[derive(Debug)]
pub(super) struct NodeEnvironment;

#[async_trait(?Send)]
impl Device for NodeEnvironment {
    fn name(&self) -> &'static str {
        "node-environment"
    }

    async fn before(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let info = cluster.get("/_nodes").await?;
        let mut shared: Option<JsonObject> = None;
        for (_, node) in entries(&info["nodes"]) {
            let plugins: Vec<&Value> = elements(&node["plugins"]).map(|plugin| &plugin["name"]).collect();
            let mut common = JsonObject::new();
            if !plugins.is_empty() {
                common.insert("plugins".to_owned(), json!(plugins));
            }
            common
                .extend(entries(&node["attributes"]).map(|(name, value)| (format!("attribute_{name}"), value.clone())));
            let name = node["name"].as_str().unwrap_or_default();
            let mut fields = object(json!({
                "cluster": cluster.name,
                "node": name,
                "node_name": name,
                "host_name": node["host"],
                "os_name": node["os"]["name"],
                "os_version": node["os"]["version"],
                "cpu_logical_cores": node["os"]["available_processors"],
                "jvm_vendor": node["jvm"]["vm_vendor"],
                "jvm_version": node["jvm"]["version"],
            }));
            fields.retain(|_, value| !value.is_null());
            fields.extend(common.clone());
            records.document("node_environment", fields, JsonObject::new());
            match &mut shared {
                None => shared = Some(common),
                Some(shared) => shared.retain(|key, value| common.get(key) == Some(value)),
            }
        }
        if let Some(mut shared) = shared.filter(|shared| !shared.is_empty()) {
            shared.insert("cluster".to_owned(), json!(cluster.name));
            records.document("shared_node_environment", shared, JsonObject::new());
        }
        Ok(())
    }
}
