#!/usr/bin/env python3
"""Race the same track with the original Rally 2.13.0 and with `rallyd`, and compare the requests that arrive.

    benches/scripts/differential.py [--rallyd BINARY] [--venv DIRECTORY]

Both race against a stand-in for Elasticsearch in this process that writes down every request. For each task the requests of
each client have to be the same (method, path, query, body), in the same order; and both reports have to show the same tasks with
the same units and error rates. Rally is installed from PyPI into a virtual environment (`target/rally-venv` by default) at the first run.
"""
import argparse
import collections
import csv
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = 5_000

TRACK = {
    "version": 2,
    "description": "The same for both",
    "indices": [{"name": "differential", "body": "index.json"}],
    "corpora": [
        {
            "name": "differential",
            "documents": [{"source-file": "documents.json", "document-count": DOCUMENTS, "target-index": "differential"}],
        }
    ],
    "challenges": [
        {
            "name": "only",
            "default": True,
            "schedule": [
                # Rally asks whether the index exists; the default departs from that.
                {"operation": {"operation-type": "delete-index", "only-if-exists": False}},
                {"operation": {"operation-type": "create-index"}},
                # Rally's workers, of which there is one for each core, read a corpus for all of their clients together.
                {
                    "name": "bulk",
                    "clients": 2,
                    "operation": {"operation-type": "bulk", "bulk-size": 250, "ingest-percentage": 80},
                },
                {"operation": {"name": "refresh", "operation-type": "refresh"}},
                {
                    "name": "search",
                    "clients": 2,
                    "warmup-iterations": 3,
                    "iterations": 20,
                    "target-throughput": 40,
                    "operation": {
                        "operation-type": "search",
                        "index": "differential",
                        "request-params": {"request_cache": True, "preference": "a b"},
                        "body": {"query": {"match_all": {}}, "size": 7},
                    },
                },
                {
                    "name": "raw",
                    "iterations": 5,
                    "operation": {
                        "operation-type": "raw-request",
                        "method": "GET",
                        "path": "/differential/_count",
                        "body": {"query": {"term": {"a": "ü"}}},
                        "request-params": {"ignore": [404]},
                    },
                },
                {"name": "merge", "operation": {"operation-type": "force-merge", "max-num-segments": 1}},
            ],
        }
    ],
}

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


class StandIn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers would wait for each other's acknowledgements.
    wbufsize = -1

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        self.server.seen.append((self.client_address[1], self.command, path, query, body))
        found = {"acknowledged": True, "shards_acknowledged": True, "_shards": {"total": 1, "successful": 1, "failed": 0}}
        if path == "/":
            found = INFO
        elif path.endswith("_bulk"):
            item = {"index": {"_index": "differential", "status": 201, "_shards": {"failed": 0}}}
            found = {"took": 1, "errors": False, "items": [item] * (body.count(b"\n") // 2)}
        elif path.endswith("_search"):
            found = {"took": 1, "timed_out": False, "hits": {"total": {"value": 3, "relation": "eq"}, "hits": []}}
        elif path.startswith("/_cluster/health"):
            found = {"cluster_name": "stand-in", "status": "green", "relocating_shards": 0, "timed_out": False}
        elif path == "/_cluster/settings":
            found = {"acknowledged": True, "persistent": {}, "transient": {}}
        elif path.startswith("/_nodes"):
            found = {"cluster_name": "stand-in", "nodes": {}}
        elif path.endswith("_stats") or "_stats/" in path:
            found = {"_all": {"primaries": {}, "total": {}}, "indices": {}}
        data = b"" if self.command == "HEAD" else json.dumps(found).encode()
        self.send_response(200)
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


def write_track(home):
    directory, corpus = home / "track", home / ".rally" / "benchmarks" / "data" / "differential"
    directory.mkdir()
    corpus.mkdir(parents=True)
    (directory / "track.json").write_text(json.dumps(TRACK))
    (directory / "index.json").write_text('{"settings": {"index.number_of_shards": 1}}')
    with open(corpus / "documents.json", "w") as file:
        for i in range(DOCUMENTS):
            file.write(json.dumps({"id": i, "text": "ü" * (i % 50)}, ensure_ascii=False) + "\n")


def race(name, command, environment):
    """Runs a race: the requests that arrived, and the report."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.daemon_threads = True
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    done = subprocess.run([*command, f"--target-hosts={host}"], env=environment, capture_output=True, text=True)
    server.shutdown()
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
    return server.seen, done.stdout


def canonical(body):
    """A body without what may differ: JSON is read, bulks are hashed as they are."""
    if body.count(b"\n") > 1:
        lines = body.split(b"\n")
        pairs = [(json.loads(action), document) for action, document in zip(lines[::2], lines[1::2])]
        return f"{len(pairs)} documents, {hashlib.sha256(repr(pairs).encode()).hexdigest()[:16]}"
    return json.dumps(json.loads(body), sort_keys=True) if body.strip() else ""


def by_client(seen):
    """The requests of the track by path; for each the sequences of its clients, each of which has connections of its own."""
    paths = collections.defaultdict(lambda: collections.defaultdict(list))
    for connection, method, path, query, body in seen:
        if path.startswith("/differential") or path in ("/_bulk", "/_refresh"):
            query = "&".join(sorted(query.split("&")))
            paths[f"{method} {path}"][connection].append(f"{query} {canonical(body)}")
    return {path: sorted(clients.values()) for path, clients in paths.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rallyd")
    # Not the program itself: Rally takes every process for its own that has its name among its arguments.
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / "target" / "rally-venv")
    args = parser.parse_args()
    esrally = args.venv / "bin" / "esrally"
    if not esrally.exists():
        venv.create(args.venv, with_pip=True)
        subprocess.run([args.venv / "bin" / "python", "-m", "pip", "install", "--quiet", "esrally==2.13.0"], check=True)
    rallyd = args.rallyd
    if not rallyd:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "rallyd"], check=True, cwd=ROOT)
        rallyd = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "rallyd"

    with tempfile.TemporaryDirectory() as name:
        home = pathlib.Path(name)
        write_track(home)
        environment = {**os.environ, "HOME": name, "PATH": f"{esrally.parent}:{os.environ['PATH']}"}
        common = [f"--track-path={home / 'track'}", "--pipeline=benchmark-only", "--on-error=abort"]
        report = home / "report.csv"
        rally_only = ["--offline", "--report-format=csv", f"--report-file={report}"]
        theirs, _ = race("Rally", [esrally, "race", *common, *rally_only], environment)
        ours, table = race("rallyd", [rallyd, "race", *common], environment)
        with open(report) as file:
            rows = list(csv.DictReader(file))

    faults = compare(by_client(theirs), by_client(ours))
    lines = [row for row in rows if row["Task"]]
    for row in lines:
        metric, task, unit = row["Metric"], row["Task"], row["Unit"]
        line = next((line for line in table.splitlines() if f" {metric} |" in line and f" {task} |" in line), "")
        cells = [cell.strip() for cell in line.split("|")]
        if unit not in cells or (metric == "error rate" and float(cells[3]) != float(row["Value"])):
            faults.append(f"{metric} of {task} is {row['Value']} {unit}, but we show `{line.strip()}`")
    print(f"{len(lines)} lines of the report compared")
    print("\n".join(faults) or "No difference.")
    sys.exit(bool(faults))


def compare(theirs, ours):
    faults = []
    for path in sorted(theirs.keys() | ours.keys()):
        expected, found = theirs.get(path, []), ours.get(path, [])
        count = sum(map(len, expected))
        if expected == found:
            print(f"{path}: {count} requests of {len(expected)} clients are the same")
        else:
            faults.append(f"{path}: Rally sent\n  {show(expected)}\nbut we sent\n  {show(found)}")
    return faults


def show(clients):
    return "\n  ".join(f"{len(requests)}: {requests[:3]}" for requests in clients) or "nothing"


if __name__ == "__main__":
    main()
