"""The tracks that both race: every type of operation once, and load of several clients."""
import json

DOCUMENTS, MANY_DOCUMENTS = 1_000, 5_000
# How many clients the second race has; each has a worker of its own in Rally, too, whose workers share what they read.
CLIENTS = 4


def one(operation_type, name=None, **properties):
    """A task that runs an operation once."""
    task = name or operation_type
    return {"name": task, "operation": {"name": task, "operation-type": operation_type, **properties}}


def within(operation_type, **properties):
    """An operation inside of a composite one."""
    return {"operation-type": operation_type, **properties}


BODY = {"query": {"term": {"a": "ü"}}}
SORTED = {"query": {"match_all": {}}, "sort": [{"n": "asc"}, {"s": "asc"}]}
BUCKETS = {"size": 0, "aggs": {"outer": {"filter": {"match_all": {}}, "aggs": {"pages": {"composite": {"sources": [{"key": {"terms": {"field": "a"}}}]}}}}}}
TEMPLATE = {"index_patterns": ["t-*"], "template": {"settings": {"index.number_of_shards": 2}}}
COMPONENT = {"template": {"settings": {"index.number_of_shards": 2}}}
POLICY = {"policy": {"phases": {"delete": {"min_age": "1d", "actions": {"delete": {}}}}}}
NO_SUCH = {"only-if-exists": False}
QUICKLY = {"retry-wait-period": 0.05}

EVERY_TYPE = [
    one("delete-index"),
    one("delete-index", "delete-index-at-once", **NO_SUCH),
    one("delete-index", "delete-index-that-is-absent", index=["absent-1", "b"]),
    one("create-index", settings={"index.refresh_interval": "30s"}),
    one("create-component-template"),
    one("create-component-template", "create-component-template-by-name", template="c2", body=COMPONENT),
    one("create-composable-template", settings={"index": {"number_of_replicas": 0}}),
    one("create-composable-template", "create-composable-template-by-name", template="t2", body=TEMPLATE),
    one("create-index-template", template="t3", body={"index_patterns": ["t-*"], "settings": {"number_of_shards": 2}}),
    one("delete-composable-template"),
    one("delete-component-template"),
    one("delete-index-template", template="t3"),
    one("delete-index-template", "delete-index-template-with-indices", template="t3", **{"delete-matching-indices": True, "index-pattern": "t-*"}),
    one("create-data-stream", **{"data-stream": ["d1", "d2"]}),
    one("delete-data-stream", **{"data-stream": ["d1", "absent-d2"]}),
    one("delete-data-stream", "delete-data-stream-at-once", **{"data-stream": "d1", **NO_SUCH}),
    one("put-pipeline", id="p", body={"description": "x", "processors": []}),
    one("put-settings", body={"persistent": {"action.auto_create_index": "false"}}),
    one("raw-request", "put-alias", method="POST", path="/_aliases", body={"actions": [{"add": {"index": "differential", "alias": "a"}}]}),
    one("bulk", **{"bulk-size": 250}),
    one("bulk", "bulk-with-options", pipeline="p", refresh="wait_for", timeout="30s", **{"bulk-size": 300, "batch-size": 600, "detailed-results": True}),
    one("bulk", "bulk-of-new-ids", conflicts="sequential", **{"bulk-size": 250, "conflict-probability": 0}),
    # With nothing but conflicts, only the first id is ever used.
    one("bulk", "bulk-of-updates", conflicts="sequential", **{"bulk-size": 250, "conflict-probability": 100, "on-conflict": "update"}),
    one("bulk", "bulk-of-conflicts", conflicts="random", recency=0.5, timeout="conflicts", **{"bulk-size": 500, "conflict-probability": 30, "on-conflict": "update"}),
    one("bulk", "bulk-of-a-part", **{"bulk-size": 100, "ingest-percentage": 35}),
    one("bulk", "bulk-of-a-count", **{"bulk-size": 100, "ingest-doc-count": 400}),
    one("refresh"),
    one("refresh", "refresh-one", index="differential"),
    one("refresh", "refresh-late", index="late", retries=3, **QUICKLY),
    one("force-merge"),
    one("force-merge", "force-merge-to-one", index="differential", **{"max-num-segments": 1, "request-timeout": 30}),
    one("force-merge", "force-merge-polling", mode="polling", **{"poll-period": 1}),
    one("cluster-health"),
    one("cluster-health", "cluster-health-waiting", index="waiting", **{"request-params": {"wait_for_status": "green", "wait_for_no_relocating_shards": True}, "retry-until-success": True, **QUICKLY}),
    one("index-stats"),
    one("index-stats", "index-stats-waiting", index="differential", condition={"path": "_all.primaries.docs.count", "expected-value": 7}, **{"retry-until-success": True, **QUICKLY}),
    one("node-stats"),
    one("search", body=BODY, **{"request-params": {"preference": "a b", "routing": "x,y"}}),
    one("search", "search-with-details", body=BODY, cache=True, **{"detailed-results": True, "results-per-page": 3, "response-compression-enabled": False}),
    one("search", "search-without-cache", index="a,b", body=None, cache=False, **{"opaque-id": "me", "headers": {"x-some": "header"}}),
    one("search", "search-pages", body=BODY, pages=2, **{"results-per-page": 10}),
    one("scroll-search", body=BODY, pages="all", **{"results-per-page": 10}),
    one("scroll-search", "scroll-search-of-one-page", body=BODY, pages=1, **{"results-per-page": 100, "request-params": {"preference": "x"}}),
    one("paginated-search", body=SORTED, pages="all", **{"results-per-page": 10}),
    one("paginated-search", "paginated-search-of-two", body=SORTED, pages=2, **{"results-per-page": 5, "detailed-results": True}),
    one("composite-agg", body=BUCKETS, pages="all", **{"results-per-page": 50}),
    one("composite-agg", "composite-agg-of-two", body=BUCKETS, pages=2),
    one("raw-request", path="/differential/_count", body=BODY, **{"request-params": {"ignore_unavailable": True}}),
    one("raw-request", "raw-request-of-lines", method="POST", path="/_msearch", body='{"index":"a"}\n{"query":{"match_all":{}}}\n', headers={"content-type": "application/x-ndjson"}),
    one("raw-request", "raw-request-ignored", path="/missing/_search", **{"request-params": {"ignore": [404]}}),
    one("raw-request", "eql", method="POST", path="/differential/_eql/search", body={"query": "any where true"}),
    one("composite", requests=[
        within("open-point-in-time", name="pit", index="differential"),
        within("paginated-search", name="pages", index="differential", pages="all", body=SORTED, **{"results-per-page": 10, "with-point-in-time-from": "pit"}),
        within("composite-agg", name="buckets", index="differential", pages="all", body=BUCKETS, **{"with-point-in-time-from": "pit"}),
        within("close-point-in-time", **{"with-point-in-time-from": "pit"}),
        within("search", name="inner", index="differential", body=BODY, **{"detailed-results": True}),
        within("raw-request", name="raw", path="/inner"),
        within("field-caps", name="fields", index="differential"),
        within("sleep", name="pause", duration=0.01),
    ]),
    one("composite", "composite-of-streams", **{"max-connections": 2}, requests=[
        {"stream": [within("raw-request", name="a1", path="/stream-a/1"), within("raw-request", name="a2", path="/stream-a/2")]},
        {"stream": [within("raw-request", name="b1", path="/stream-b/1"), {"stream": [within("raw-request", name="b2", path="/stream-b/2")]}]},
        within("raw-request", name="last", path="/stream-last"),
    ]),
    one("composite", "composite-of-async-searches", requests=[
        within("submit-async-search", name="s1", index="differential", body=BODY),
        within("submit-async-search", name="s2", body=BODY, **{"request-params": {"wait_for_completion_timeout": "1ms"}}),
        within("get-async-search", name="results", **{"retrieve-results-for": ["s1", "s2"], **QUICKLY}),
        within("delete-async-search", **{"delete-results-for": ["s1", "s2"]}),
    ]),
    one("sql", body={"query": "SELECT 1"}),
    one("sql", "sql-of-pages", body={"query": "SELECT 2", "fetch_size": 1}, pages=3),
    one("esql", query="FROM a", **{"request-params": {"drop_null_columns": True}}),
    one("esql", "esql-with-details", query="FROM b", body={"locale": "de"}, filter={"match_all": {}}, **{"detailed-results": True}),
    one("esql-profile", query="FROM c"),
    one("field-caps"),
    one("field-caps", "field-caps-of-some", index="differential", fields=["a", "b"], index_filter={"range": {"n": {"gte": 1}}}),
    one("run-until", path="/until", **{"json-path": "progress.done", "criterion": {"operator": "gte", "value": 3}, "retry-wait-interval": 0.05}),
    one("shrink-index", **{"source-index": "source-*", "target-index": "small", "target-body": {"settings": {"index.number_of_shards": 1}}}),
    one("create-ml-job", body={"analysis_config": {"detectors": []}, "data_description": {}}, **{"job-id": "j"}),
    one("create-ml-datafeed", body={"job_id": "j", "indices": ["a"]}, **{"datafeed-id": "f"}),
    one("create-ml-datafeed", "create-ml-datafeed-on-an-old-server", body={"job_id": "j"}, **{"datafeed-id": "old"}),
    one("open-ml-job", **{"job-id": "j"}),
    one("start-ml-datafeed", start="1", end="now", timeout="5s", **{"datafeed-id": "f"}),
    one("stop-ml-datafeed", force=True, timeout="5s", **{"datafeed-id": "f"}),
    one("close-ml-job", force=True, **{"job-id": "j"}),
    one("delete-ml-datafeed", **{"datafeed-id": "absent-f"}),
    one("delete-ml-job", force=True, **{"job-id": "absent-j"}),
    one("create-transform", body={"source": {"index": "a"}, "dest": {"index": "b"}}, **{"transform-id": "t", "defer-validation": True}),
    one("start-transform", timeout="5s", **{"transform-id": "t"}),
    one("wait-for-transform", **{"transform-id": "t", "poll-interval": 0.05}),
    one("transform-stats", condition={"path": "state", "expected-value": "stopped"}, **{"transform-id": "t"}),
    one("delete-transform", force=True, **{"transform-id": "absent-t"}),
    one("create-ilm-policy", body=POLICY, **{"policy-name": "i", "request-params": {"master_timeout": "5s"}}),
    one("delete-ilm-policy", **{"policy-name": "absent-i"}),
    one("downsample"),
    one("downsample", "downsample-to", **{"source-index": "a", "target-index": "b", "fixed-interval": "5m", "sampling-method": "last_value"}),
    one("create-snapshot-repository", repository="r", body={"type": "fs", "settings": {"location": "x"}}, **{"request-params": {"verify": False}}),
    one("create-snapshot", repository="r", snapshot="s", body={"indices": "a"}),
    one("wait-for-snapshot-create", repository="r", snapshot="s", **{"completion-recheck-wait-period": 0.05}),
    one("wait-for-current-snapshots-create", repository="r", **{"completion-recheck-wait-period": 0.05}),
    one("restore-snapshot", repository="r", snapshot="s", body={"indices": "a"}, **{"wait-for-completion": True}),
    one("wait-for-recovery", index="restored", **{"completion-recheck-wait-period": 0.05}),
    one("sleep", duration=0.1),
]

LOAD = [
    # What names more than a track declares. Rally takes seconds for each step, so much is done side by side.
    {"parallel": {"clients": CLIENTS, "tasks": [
        one("create-index", "create-index-by-name", index=["b", "c"], body={"mappings": {}}, **{"request-params": {"wait_for_active_shards": 1}}),
        one("delete-composable-template", "delete-composable-template-at-once", template="t2", **NO_SUCH),
        one("delete-composable-template", "delete-composable-template-with-indices", template="t2", **{"delete-matching-indices": True, "index-pattern": "t-*"}),
        one("delete-component-template", "delete-component-template-at-once", template="absent-c", **NO_SUCH),
        one("bulk", "bulk-with-failures", pipeline="faulty", **{"bulk-size": 500, "detailed-results": True}),
        one("bulk", "bulk-with-failures-in-brief", pipeline="faulty", **{"bulk-size": 500}),
        one("bulk", "bulk-again-after-429", pipeline="faulty", retries_on_429=2, **{"bulk-size": 500, "ingest-percentage": 50}),
    ]}},
    {"name": "index", "clients": 3, "operation": {"operation-type": "bulk", "bulk-size": 250}},
    # A schedule in documents.
    {
        "name": "index-at-a-rate", "clients": 4, "target-throughput": "1000 docs/s",
        "operation": {"name": "index-at-a-rate", "operation-type": "bulk", "bulk-size": 100, "ingest-percentage": 80, "timeout": "timed"},
    },
    {
        "name": "throttled", "clients": 2, "warmup-iterations": 10, "iterations": 60, "target-throughput": 40,
        "operation": {"name": "throttled", "operation-type": "search", "index": "timed", "body": BODY, "detailed-results": True},
    },
    {"name": "unthrottled", "clients": 3, "warmup-iterations": 5, "iterations": 80,
     "operation": {"name": "unthrottled", "operation-type": "search", "index": "timed", "body": {"size": 7}}},
    {"parallel": {"tasks": [
        {"name": "by-time", "clients": 2, "warmup-time-period": 1, "time-period": 3, "target-interval": 0.1,
         "operation": {"name": "by-time", "operation-type": "search", "index": "timed-by-time", "body": BODY}},
        {"name": "poisson", "clients": 2, "iterations": 50, "target-throughput": 50, "schedule": "poisson",
         "operation": {"name": "poisson", "operation-type": "raw-request", "path": "/poisson"}},
    ]}},
    {"parallel": {"completed-by": "leading", "tasks": [
        {"name": "leading", "clients": 1, "iterations": 30, "target-throughput": 10,
         "operation": {"name": "leading", "operation-type": "search", "index": "timed-leading", "body": BODY}},
        {"name": "beside", "clients": 2, "iterations": 100_000, "target-throughput": 40,
         "operation": {"name": "beside", "operation-type": "search", "index": "timed-beside", "body": BODY}},
    ]}},
    # Six tasks on four clients: two clients have two tasks each, one after the other.
    {"parallel": {"iterations": 5, "clients": 4, "tasks": [
        {"name": f"row-{n}", "operation": {"name": f"row-{n}", "operation-type": "raw-request", "path": f"/row/{n}"}} for n in range(6)
    ]}},
    {"parallel": {"iterations": 10, "tasks": [
        {"name": "failing", "clients": 2,
         "operation": {"name": "failing", "operation-type": "search", "index": "missing", "body": BODY}},
        # Every third answer has status 503, after which the client asks again.
        {"name": "busy", "clients": 2,
         "operation": {"name": "busy", "operation-type": "search", "index": "busy", "body": BODY}},
    ]}},
    {"name": "paging", "clients": 4, "iterations": 3, "operation": {
        "name": "paging", "operation-type": "paginated-search", "index": "timed", "body": SORTED, "pages": "all", "results-per-page": 10}},
]


def write(home, name, schedule, documents, declared):
    """Writes a track and its corpus. If nothing is declared, its operations say all by themselves."""
    directory, corpus = home / name, home / ".rally" / "benchmarks" / "data" / name
    directory.mkdir()
    corpus.mkdir(parents=True)
    track = {
        "version": 2,
        "description": "The same for both",
        "corpora": [{"name": name, "documents": [{"source-file": "documents.json", "document-count": documents, "target-index": "differential"}]}],
        "challenges": [{"name": "only", "default": True, "schedule": schedule}],
    }
    if declared:
        track["indices"] = [{"name": "differential", "body": "index.json"}]
        track["component-templates"] = [{"name": "c1", "template": "component.json"}]
        track["composable-templates"] = [{"name": "t1", "index-pattern": "t-*", "template": "template.json"}]
    (directory / "track.json").write_text(json.dumps(track))
    (directory / "index.json").write_text('{"settings": {"index.number_of_shards": 1}}')
    (directory / "component.json").write_text(json.dumps(COMPONENT))
    (directory / "template.json").write_text(json.dumps({**TEMPLATE, "composed_of": ["c1"]}))
    with open(corpus / "documents.json", "w") as file:
        for i in range(documents):
            file.write(json.dumps({"id": i, "text": "ü" * (i % 50)}, ensure_ascii=False) + "\n")
