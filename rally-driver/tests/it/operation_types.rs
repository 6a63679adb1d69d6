//! Which test executes operations of which type: against a server that speaks Elasticsearch, or, if that does not know
//! them, against a mock.

use rally_core::track::OperationType;
use rally_driver::RunnerError;
use serde_json::{Value, json};

use crate::execution::execute;
use crate::server::Server;

/// Where a test of a whole operation is, by its name.
#[derive(Clone, Copy, Debug)]
enum Proof {
    Server(&'static str),
    /// Against a mock, because the server refuses the operation; these parameters show it.
    Mock(&'static str, fn() -> Value),
    /// Without a server, because it sends nothing.
    Alone(&'static str),
}

use Proof::{Alone, Mock, Server as OnServer};

const SOURCES: [&str; 12] = [
    include_str!("bulk_server.rs"),
    include_str!("composite.rs"),
    include_str!("search.rs"),
    include_str!("search_server.rs"),
    include_str!("admin/index.rs"),
    include_str!("admin/maintenance.rs"),
    include_str!("admin/ml.rs"),
    include_str!("admin/server.rs"),
    include_str!("admin/snapshot.rs"),
    include_str!("admin/stats.rs"),
    include_str!("admin/transform.rs"),
    include_str!("admin/common.rs"),
];

const INDICES: Proof = OnServer("indices_are_created_filled_and_deleted");
const TEMPLATES: Proof = OnServer("templates_apply_to_indices_and_are_deleted_with_them");
const SNAPSHOTS: Proof = OnServer("snapshots_are_created_waited_for_and_restored");
const PAGES: Proof = OnServer("pages_are_followed_by_their_sort_values_in_and_out_of_a_point_in_time");
const SETTINGS: Proof = OnServer("pipelines_and_settings_arrive");
const ASYNC: Proof = Mock("async_searches_are_submitted_waited_for_and_deleted", || json!({ "index": "a" }));
const ML: Proof = Mock(
    "machine_learning_takes_the_older_path_after_status_400",
    || json!({ "datafeed-id": "d", "job-id": "j", "body": {} }),
);
const TRANSFORMS: Proof =
    Mock("transforms_policies_and_enrichment_are_administered", || json!({ "transform-id": "t", "body": {} }));
const POLICIES: Proof = Mock(
    "transforms_policies_and_enrichment_are_administered",
    || json!({ "policy-name": "p", "body": { "policy": { "phases": {} } } }),
);

/// The proof for a type; none if nobody has thought of it yet.
fn proof(operation_type: &OperationType) -> Option<Proof> {
    Some(match operation_type {
        OperationType::Bulk => OnServer("every_document_arrives_once_and_conflicting_ones_take_the_place_of_others"),
        OperationType::Search => OnServer("searches_find_what_is_there"),
        OperationType::ScrollSearch => OnServer("pages_of_a_scroll_add_up_to_all_documents"),
        OperationType::CompositeAgg => Mock("a_composite_aggregation_is_read_to_its_last_bucket", || {
            let composite = json!({ "sources": [{ "a": { "terms": { "field": "n" } } }] });
            json!({ "index": "a", "body": { "aggs": { "pages": { "composite": composite } } } })
        }),
        OperationType::RawRequest => OnServer("a_raw_request_gets_the_answer_of_the_server"),
        OperationType::PaginatedSearch
        | OperationType::Composite
        | OperationType::FieldCaps
        | OperationType::OpenPointInTime
        | OperationType::ClosePointInTime => PAGES,
        OperationType::Sql => Mock("sql_follows_its_cursor", || json!({ "body": { "query": "SELECT 1" } })),
        OperationType::Esql => Mock("esql_says_whether_its_results_are_partial", || json!({ "query": "FROM a" })),
        OperationType::EsqlProfile => Mock("an_esql_profile_is_kept_with_the_sample", || json!({ "query": "FROM a" })),
        OperationType::SubmitAsyncSearch | OperationType::GetAsyncSearch | OperationType::DeleteAsyncSearch => ASYNC,
        OperationType::RunUntil => OnServer("run_until_ends_once_the_server_says_so"),
        OperationType::Sleep => Alone("operations_run_in_order_and_the_outer_time_spans_all_of_them"),
        OperationType::IndexStats
        | OperationType::NodeStats
        | OperationType::ClusterHealth
        | OperationType::Refresh
        | OperationType::CreateIndex
        | OperationType::DeleteIndex => INDICES,
        OperationType::CreateIndexTemplate
        | OperationType::DeleteIndexTemplate
        | OperationType::CreateComposableTemplate
        | OperationType::DeleteComposableTemplate
        | OperationType::CreateComponentTemplate
        | OperationType::DeleteComponentTemplate => TEMPLATES,
        OperationType::PutPipeline | OperationType::PutSettings => SETTINGS,
        OperationType::ForceMerge => OnServer("merges_are_waited_for"),
        OperationType::ShrinkIndex => OnServer("an_index_shrinks_with_all_its_documents"),
        OperationType::CreateSnapshotRepository
        | OperationType::DeleteSnapshotRepository
        | OperationType::CreateSnapshot
        | OperationType::RestoreSnapshot
        | OperationType::WaitForSnapshotCreate
        | OperationType::WaitForCurrentSnapshotsCreate
        | OperationType::WaitForRecovery => SNAPSHOTS,
        OperationType::CreateDataStream => {
            Mock("indices_and_data_streams_are_created", || json!({ "data-stream": "s" }))
        }
        OperationType::DeleteDataStream => Mock(
            "indices_are_deleted_while_wildcards_are_allowed_and_the_setting_is_put_back",
            || json!({ "data-stream": "s", "only-if-exists": false }),
        ),
        OperationType::Downsample => Mock("maintenance_is_one_request_each", || json!({ "source-index": "a" })),
        OperationType::CreateMlDatafeed
        | OperationType::DeleteMlDatafeed
        | OperationType::StartMlDatafeed
        | OperationType::StopMlDatafeed
        | OperationType::CreateMlJob
        | OperationType::DeleteMlJob
        | OperationType::OpenMlJob
        | OperationType::CloseMlJob => ML,
        OperationType::CreateTransform | OperationType::StartTransform | OperationType::DeleteTransform => TRANSFORMS,
        OperationType::WaitForTransform => {
            Mock("a_transform_reports_in_between_and_ends_its_task", || json!({ "transform-id": "t" }))
        }
        OperationType::TransformStats => {
            Mock("statistics_are_asked_for_and_compared", || json!({ "transform-id": "t" }))
        }
        OperationType::CreateIlmPolicy | OperationType::DeleteIlmPolicy => POLICIES,
        OperationType::Other(name) if name == "enrich-policy" => Mock(
            "enrich_policies_are_created_and_executed_side_by_side",
            || json!({ "policies": { "e": {} }, "delete": false }),
        ),
        _ => return None,
    })
}

fn all() -> impl Iterator<Item = OperationType> {
    OperationType::ALL.iter().cloned().chain([OperationType::from("enrich-policy")])
}

/// The text of the test of this name.
fn text_of(test: &str) -> Option<&'static str> {
    let mut sources = SOURCES.iter().filter_map(|source| source.split_once(&format!("\nasync fn {test}() {{\n")));
    sources.next()?.1.split("\n}\n").next()
}

/// Whether a test of this name is there and names the type of the operation.
fn is_tested_by(operation_type: &OperationType, test: &str) -> bool {
    text_of(test).is_some_and(|text| text.contains(&format!("\"{operation_type}\"")))
}

/// Whether a test compares method, path, query and body of what the mock got with what is expected.
fn compares_requests(test: &str) -> bool {
    text_of(test).is_some_and(|text| [".sends(", ".lines()", ".received()"].iter().any(|part| text.contains(part)))
}

#[test]
fn every_type_of_operation_is_executed_by_a_test() {
    let missing: Vec<_> = all()
        .filter_map(|operation_type| match proof(&operation_type) {
            None => Some(format!("{operation_type} has no row")),
            Some(OnServer(test) | Mock(test, _) | Alone(test)) => (!is_tested_by(&operation_type, test))
                .then(|| format!("{operation_type} is not executed by a test `{test}`")),
        })
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    for operation_type in all() {
        if let Some(Mock(test, _)) = proof(&operation_type) {
            assert!(compares_requests(test), "`{test}` does not look at the requests of {operation_type}");
        }
    }
    assert!(!is_tested_by(&OperationType::Sql, "sql_follows_its_cursor_to_the_end"));
    assert!(!is_tested_by(&OperationType::Bulk, "sql_follows_its_cursor"));
}

/// Once the server knows one of them, the table is to name a test against the server.
#[tokio::test]
async fn what_is_only_tested_against_a_mock_is_refused_by_the_server() {
    let Some(server) = Server::start("what_is_only_tested_against_a_mock_is_refused_by_the_server").await else {
        return;
    };
    let document = json!({ "path": "/a/_doc/1", "method": "PUT", "body": { "n": 1 } });
    execute(server.address(), "raw-request", document).await.unwrap();
    for operation_type in all() {
        let Some(Mock(_, params)) = proof(&operation_type) else { continue };
        let name = operation_type.as_str();
        let result = match name {
            // These are parts of a composite operation, and an id comes from a search that was submitted.
            "submit-async-search" | "get-async-search" | "delete-async-search" => {
                let search = json!({ "operation-type": "submit-async-search", "name": "s", "body": {}, "index": "a" });
                execute(server.address(), "composite", json!({ "requests": [search] })).await
            }
            _ => execute(server.address(), name, params()).await,
        };
        let error = result.expect_err(name);
        assert!(matches!(error, RunnerError::Api { status: 400 | 404 | 405, .. }), "{name}: {error:?}");
    }
}
