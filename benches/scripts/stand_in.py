"""A stand-in for Elasticsearch 8 that writes down every request, for comparing who sends what.

Its answers have the form that Elasticsearch gives them and are made of the request alone, or of how often it came: two races
that send the same get the same answers. It stores nothing.
"""
import base64
import collections
import http.server
import json
import re
import threading
import time
import urllib.parse

INFO = {
    "name": "stand-in",
    "cluster_name": "stand-in",
    "cluster_uuid": "stand-in",
    "version": {
        "number": "8.13.4",
        "build_flavor": "default",
        "build_type": "tar",
        "build_hash": "da95df118650b55a500dcc181889ac35c6d8da7c",
        "build_date": "2024-05-06T22:04:45.107454559Z",
        "build_snapshot": False,
        "lucene_version": "9.10.0",
        "minimum_wire_compatibility_version": "7.17.0",
        "minimum_index_compatibility_version": "7.0.0",
    },
    "tagline": "You Know, for Search",
}
SHARDS = {"total": 5, "successful": 5, "skipped": 1, "failed": 0}
ACKNOWLEDGED = {"acknowledged": True, "shards_acknowledged": True, "_shards": SHARDS}
# How many documents an index has, and how long a search in an index `timed…` takes, in seconds.
DOCUMENTS, SERVICE_TIME = 25, 0.02

Request = collections.namedtuple("Request", "client method path query body")


class State:
    """What was asked how often, by whom."""

    def __init__(self):
        self.counts = collections.Counter()
        self.lock = threading.Lock()

    def times(self, *key):
        """How often this was asked before."""
        with self.lock:
            self.counts[key] += 1
            return self.counts[key] - 1


def first_then(request, state, *answers):
    """One answer after the other, the last one for ever; each client has its own."""
    return answers[min(state.times(request.client, request.method, request.path), len(answers) - 1)]


def hits(body, cursor, count=DOCUMENTS):
    """A page of hits: those that come after `cursor`."""
    size = body.get("size", 10)
    numbers = range(cursor, min(cursor + size, count))
    found = [{"_index": "i", "_id": str(n), "_score": None, "_source": {"n": n}, "sort": [n, f"s{n}"]} for n in numbers]
    return {"total": {"value": count, "relation": "eq"}, "max_score": None, "hits": found}


def search(request, state):
    if "/timed" in request.path:
        time.sleep(SERVICE_TIME)
    if request.path.startswith("/missing"):
        return 404, {"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}
    if request.path.startswith("/busy") and state.times(request.client, request.path) % 3 == 0:
        return 503, {"error": {"type": "unavailable_shards_exception", "reason": "busy"}, "status": 503}
    body = json.loads(request.body or b"{}")
    query = dict(urllib.parse.parse_qsl(request.query))
    body.setdefault("size", int(query.get("size", 10)))
    after = body.get("search_after")
    found = {"took": 5, "timed_out": False, "_shards": SHARDS, "hits": hits(body, after[0] + 1 if after else 0)}
    if "pit" in body:
        # The id is another one after each page.
        found = {"pit_id": body["pit"]["id"] + "+", **found}
    if "scroll" in query:
        found = {"_scroll_id": f"{state.times(request.client, 'scroll')}-{body['size']}", **found}
    aggregations = body.get("aggs") or body.get("aggregations")
    if aggregations:
        found["aggregations"] = aggregate(aggregations)
    return 200, found


def aggregate(aggregations):
    """Three pages of composite buckets, within whatever else is asked for."""
    found = {}
    for name, aggregation in aggregations.items():
        found[name] = aggregate(aggregation.get("aggs", {}))
        if "composite" in aggregation:
            page = aggregation["composite"].get("after", {"key": 0})["key"]
            found[name]["buckets"] = [{"key": {"key": page + 1}, "doc_count": 2}] if page < 3 else []
            if page < 3:
                found[name]["after_key"] = {"key": page + 1}
    return found


def scroll(request, state):
    if request.method == "DELETE":
        return 200, {"succeeded": True, "num_freed": 1}
    scroll_id = json.loads(request.body)["scroll_id"]
    size = int(scroll_id.split("-")[1])
    page = hits({"size": size}, size * (1 + state.times(request.client, scroll_id)))
    return 200, {"_scroll_id": scroll_id, "took": 2, "timed_out": False, "_shards": SHARDS, "hits": page}


def bulk(request, state):
    if "/timed" in request.path or "timed" in request.query:
        time.sleep(SERVICE_TIME)
    lines, items = request.body.split(b"\n"), []
    retried = False
    for number, line in enumerate(lines[:-1:2]):
        (action, target), = json.loads(line).items()
        status, shards = 201, {"total": 2, "successful": 1, "failed": 0}
        item = {"_index": target.get("_index"), "_id": target.get("_id", str(number)), "_version": 1, "_seq_no": number}
        # Of a pipeline `faulty`, every hundredth document is refused for good, and every fiftieth for now.
        if "pipeline=faulty" in request.query and number % 50 == 7:
            status = 400 if number % 100 == 7 else 429
            reason = "made to fail" if status == 400 else "come back later"
            items.append({action: {**item, "status": status, "error": {"type": "as_told", "reason": reason}}})
            retried = True
            continue
        items.append({action: {**item, "result": "created", "_shards": shards, "status": status}})
    return 200, {"took": 30, "errors": retried, "items": items}


def cluster_health(request, state):
    status = "green"
    if "/waiting" in request.path:
        status = first_then(request, state, "red", "yellow", "green")
    return 200, {"cluster_name": "stand-in", "status": status, "timed_out": False, "number_of_nodes": 1, "relocating_shards": 0}


def refresh(request, state):
    status = first_then(request, state, 408, 408, 200) if "/late" in request.path else 200
    return status, {"_shards": SHARDS} if status == 200 else {"error": {"type": "timeout_exception"}, "status": status}


def force_merge(request, state):
    return 200, {"task": "node:7"} if "wait_for_completion=false" in request.query else {"_shards": SHARDS}


def task(request, state):
    return 200, {"completed": first_then(request, state, False, True), "task": {"node": "node", "id": 7}}


def statistics(request, state):
    docs = first_then(request, state, 3, 7)
    total = {"docs": {"count": docs}, "store": {"size_in_bytes": 1 << 30}}
    return 200, {"_shards": SHARDS, "_all": {"primaries": total, "total": total}, "indices": {}}


def indices(request, state):
    if request.method == "GET":
        names = [name.replace("*", suffix) for name in [request.path[1:]] for suffix in (["a", "b"] if "*" in name else [""])]
        return 200, {name: {"settings": {}, "mappings": {}} for name in names}
    missing = request.method == "HEAD" and "absent" in request.path
    return 404 if missing else 200, ACKNOWLEDGED


def nodes(request, state):
    node = {"name": "only", "roles": ["data", "master"], "os": {"name": "Linux"}, "jvm": {"version": "21"}, "plugins": []}
    return 200, {"cluster_name": "stand-in", "nodes": {"n1": node}}


def node_stats(request, state):
    collectors = {name: {"collection_time_in_millis": 0, "collection_count": 0} for name in ("young", "old")}
    pools = {name: {"peak_used_in_bytes": 0} for name in ("young", "survivor", "old")}
    jvm = {"gc": {"collectors": collectors}, "mem": {"pools": pools}}
    ingest = {"total": {"count": 0, "time_in_millis": 0, "current": 0, "failed": 0}, "pipelines": {}}
    return 200, {"cluster_name": "stand-in", "nodes": {"n1": {"name": "only", "jvm": jvm, "ingest": ingest}}}


def sql(request, state):
    page = int(json.loads(request.body).get("cursor", "0")) + 1
    return 200, {"rows": [[page]], "cursor": str(page)} if page < 3 else {"rows": []}


def esql(request, state):
    body = json.loads(request.body)
    times = {"start_time_in_millis": 1, "completion_time_in_millis": 12, "expiration_time_in_millis": 1_000}
    found = {"took": 11, "is_partial": "partial" in body["query"], "documents_found": 4, "values_loaded": 8, **times, "values": []}
    if body.get("profile"):
        status = {"process_nanos": 3_000_000, "receive_nanos": 500_000, "emit_nanos": 250_000, "processed_slices": 2}
        operators = [{"operator": "LuceneSource[a=b]", "status": status}, {"operator": "Output", "status": {}}]
        driver = {"description": "data", "took_nanos": 9_000_000, "cpu_nanos": 4_000_000, "operators": operators}
        found["profile"] = {
            **{phase: {"took_nanos": n * 1_000_000} for n, phase in enumerate(["analysis", "query", "planning", "parsing"])},
            "drivers": [driver, {**driver, "took_nanos": 12_000_000}],
            "plans": [{"description": "node", "logical_optimization_nanos": 1_500_000, "reduction_nanos": 0}],
        }
    return 200, found


def async_search(request, state):
    if request.method == "POST":
        return 200, {"id": f"async{state.times(request.client, 'async')}", "is_running": True}
    if request.method == "DELETE":
        return 200, ACKNOWLEDGED
    running = first_then(request, state, True, False)
    return 200, {"id": "async", "is_running": running, "response": {"took": 9, "timed_out": False, "hits": hits({}, 0)}}


def point_in_time(request, state):
    return 200, {"id": "pit"} if request.method == "POST" else {"succeeded": True, "num_freed": 1}


def recovery(request, state):
    if state.times(request.client, request.path) == 0:
        return 200, {}
    stage = first_then(request, state, "INDEX", "DONE")
    times = {"start_time_in_millis": 1_700_000_000_000, "stop_time_in_millis": 1_700_000_004_000}
    shard = {"stage": stage, **times, "index": {"size": {"recovered_in_bytes": 8_000_000}}}
    return 200, {"restored": {"shards": [shard, {**shard, "stage": "DONE"}]}}


def snapshot(request, state):
    if request.path.endswith("/_current"):
        running = first_then(request, state, True, False)
        return 200, {"snapshots": [{"snapshot": "s"}] if running else [], "total": int(running), "remaining": 0}
    if request.path.endswith("/_status"):
        total = {"size_in_bytes": 6_000_000, "file_count": 12}
        stats = {"total": total, "start_time_in_millis": 1_700_000_000_000, "time_in_millis": 3_000}
        return 200, {"snapshots": [{"snapshot": "s", "state": first_then(request, state, "STARTED", "SUCCESS"), "stats": stats}]}
    return 200, {"accepted": True, **ACKNOWLEDGED}


def transform_stats(request, state):
    number = first_then(request, state, 0, 1, 2, 3)
    done = {"documents_processed": 6_000 * number, "search_time_in_ms": 900 * number, "processing_time_in_ms": 100 * number}
    progress = {"next": {"checkpoint_progress": {"percent_complete": 30.0 * number}}}
    found = {"id": "t", "state": "stopped" if number == 3 else "indexing", "stats": done, "checkpointing": progress}
    return 200, {"count": 1, "transforms": [found]}


def machine_learning(request, state):
    # A server that only knows the older path of datafeeds.
    if request.path.startswith("/_ml/datafeeds/old"):
        return 400, {"error": {"type": "illegal_argument_exception", "reason": "unknown path"}, "status": 400}
    return 200, {"opened": True, "started": True, "stopped": True, "closed": True, **ACKNOWLEDGED}


def missing(request, state):
    """What is deleted is not there any more."""
    gone = request.method == "DELETE" and "absent" in request.path or request.method == "HEAD" and "absent" in request.path
    return (404, {"error": {"type": "resource_not_found_exception"}, "status": 404}) if gone else (200, ACKNOWLEDGED)


def cluster_settings(request, state):
    return 200, {"acknowledged": True, "persistent": {}, "transient": {}}


def api_key(request, state):
    body = json.loads(request.body)
    if request.method == "DELETE":
        return 200, {"invalidated_api_keys": body["ids"], "previously_invalidated_api_keys": [], "error_count": 0}
    return 200, {"id": body["name"], "name": body["name"], "api_key": "secret"}


# The first that fits.
ROUTES = [
    (r"/$", lambda request, state: (200, INFO)),
    (r"/_security/api_key$", api_key),
    (r"(/.*)?/_bulk$", bulk),
    (r"/_search/scroll$", scroll),
    (r"(/.*)?/_search$", search),
    (r"(/.*)?/_async_search", async_search),
    (r"(/.*)?/_pit$", point_in_time),
    (r"(/.*)?/_field_caps$", lambda request, state: (200, {"indices": [], "fields": {}})),
    (r"/_cluster/health", cluster_health),
    (r"/_cluster/settings$", cluster_settings),
    (r"/_cluster/state", lambda request, state: (200, {"cluster_name": "stand-in", "master_node": "n1"})),
    (r"/_nodes(/.*)?/stats", node_stats),
    (r"/_nodes", nodes),
    (r"/_tasks/", task),
    (r"(/.*)?/_refresh$", refresh),
    (r"(/.*)?/_forcemerge$", force_merge),
    (r"/_transform/.*/_stats$", transform_stats),
    (r"(/.*)?/_stats", statistics),
    (r"(/.*)?/_recovery$", recovery),
    (r"/_snapshot/", snapshot),
    (r"/_sql$", sql),
    (r"/_query$", esql),
    (r"/_ml/|/_xpack/ml/", machine_learning),
    (r"/until$", lambda request, state: (200, {"progress": {"done": first_then(request, state, 1, 2, 3)}})),
    (r"/_(transform|ilm|enrich|template|index_template|component_template|data_stream|ingest)/", missing),
    (r"/[^_/]+$", indices),
    (r"/", lambda request, state: (200, ACKNOWLEDGED)),
]
ROUTES = [(re.compile(path), answer) for path, answer in ROUTES]


def answer(request, state):
    """Status and body."""
    return next(answer for route, answer in ROUTES if route.match(request.path))(request, state)


class StandIn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers would wait for each other's acknowledgements.
    wbufsize = -1

    def respond(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        request = Request(self.client(), self.command, path, query, body)
        with self.server.state.lock:
            self.server.seen.append(request)
        status, found = answer(request, self.server.state)
        data = b"" if self.command == "HEAD" else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    def client(self):
        """The number of the simulated client, by the API key of its own; none if it is no client that asks."""
        kind, _, credentials = self.headers.get("authorization", "").partition(" ")
        if kind.lower() != "apikey":
            return None
        return int(base64.b64decode(credentials).decode().split(":")[0].removeprefix("rally-client-"))

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), StandIn)
        self.seen, self.state = [], State()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *exit):
        self.shutdown()
        super().__exit__(*exit)
