//! Machine learning.

use serde_json::json;

use super::check;
use crate::operation::Case;

#[tokio::test]
async fn machine_learning_takes_the_older_path_after_status_400() {
    check([
        Case::new("create-ml-datafeed", json!({ "datafeed-id": "d", "body": { "job_id": "j" } }))
            .status("PUT /_ml/datafeeds/d", 400)
            .sends(&[r#"PUT /_ml/datafeeds/d {"job_id": "j"}"#, r#"PUT /_xpack/ml/datafeeds/d {"job_id": "j"}"#]),
        Case::new("create-ml-datafeed", json!({ "datafeed-id": "d" })).fails("needs the parameter `body`"),
        Case::new("delete-ml-datafeed", json!({ "datafeed-id": "d" }))
            .status("DELETE /_ml/datafeeds/d", 404)
            .sends(&["DELETE /_ml/datafeeds/d?force=false"]),
        Case::new("delete-ml-datafeed", json!({ "datafeed-id": "d", "force": true }))
            .status("DELETE /_ml/datafeeds/d", 400)
            .status("DELETE /_xpack/ml/datafeeds/d", 404)
            .sends(&["DELETE /_ml/datafeeds/d?force=true", "DELETE /_xpack/ml/datafeeds/d?force=true"]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d" })).sends(&["POST /_ml/datafeeds/d/_start"]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d", "start": "1", "end": "2", "timeout": "3s" }))
            .sends(&[r#"POST /_ml/datafeeds/d/_start {"start": "1", "end": "2", "timeout": "3s"}"#]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d", "body": { "end": "now" } }))
            .status("POST /_ml/datafeeds/d/_start", 400)
            .sends(&[
                r#"POST /_ml/datafeeds/d/_start {"end": "now"}"#,
                r#"POST /_xpack/ml/datafeeds/d/_start {"end": "now"}"#,
            ]),
        Case::new("stop-ml-datafeed", json!({ "datafeed-id": "d" }))
            .sends(&[r#"POST /_ml/datafeeds/d/_stop {"force": false}"#]),
        Case::new("stop-ml-datafeed", json!({ "datafeed-id": "d", "force": true, "timeout": "3s" }))
            .status("POST /_ml/datafeeds/d/_stop", 400)
            .sends(&[
                r#"POST /_ml/datafeeds/d/_stop {"force": true, "timeout": "3s"}"#,
                "POST /_xpack/ml/datafeeds/d/_stop?force=true&timeout=3s",
            ]),
        Case::new("create-ml-job", json!({ "job-id": "j", "body": { "analysis_config": {} } }))
            .sends(&[r#"PUT /_ml/anomaly_detectors/j {"analysis_config": {}}"#]),
        Case::new("delete-ml-job", json!({ "job-id": "j", "force": true }))
            .status("DELETE /_ml/anomaly_detectors/j", 404)
            .sends(&["DELETE /_ml/anomaly_detectors/j?force=true"]),
        Case::new("open-ml-job", json!({ "job-id": "j" }))
            .status("POST /_ml/anomaly_detectors/j/_open", 400)
            .status("POST /_xpack/ml/anomaly_detectors/j/_open", 400)
            .sends(&["POST /_ml/anomaly_detectors/j/_open", "POST /_xpack/ml/anomaly_detectors/j/_open"])
            .fails("HTTP status 400"),
        Case::new("open-ml-job", json!({ "job-id": "j" }))
            .status("POST /_ml/anomaly_detectors/j/_open", 409)
            .sends(&["POST /_ml/anomaly_detectors/j/_open"])
            .fails("HTTP status 409"),
        Case::new("close-ml-job", json!({ "job-id": "j", "force": true, "timeout": "3s" }))
            .sends(&[r#"POST /_ml/anomaly_detectors/j/_close {"force": true, "timeout": "3s"}"#]),
        Case::new("close-ml-job", json!({ "job-id": "j", "force": "maybe" }))
            .fails("`force` must be true or false, not \"maybe\""),
    ])
    .await;
}
