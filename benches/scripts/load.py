#!/usr/bin/env python3
"""Compare what the load driver costs, and what it measures, with wrk, wrk2, oha and the original Rally, in the same run.

    benches/scripts/load.py [--seconds N] [--rounds N] [--oha PATH] [--wrk2 PATH] [--rally [DIRECTORY]] [--realtime] [SECTION ...]

Sections: closed, memory, bulk, open, freeze; all by default. Needs Linux with two cores, Debian's nginx, libnginx-mod-http-lua
and wrk. oha from crates.io, and wrk2, which no distribution has a package of, are left out if they are not there.

The server is nginx on the first core, with one answer to a search (2.7 kB) and one to a bulk of 1,000 documents; generators run
on the second core, one after the other. Requests are counted by the server, CPU time by the kernel for the whole process, from
its start to its end. What counts are ratios within one run; the median of the rounds is shown. With --realtime all of them run
before anything else on the machine (`chrt -f`), which is for measuring times on a machine that has other things to do; it needs
root, and the closed sections would leave nothing to others.

With --rally, the original Rally 2.13.0 is measured as well, once in each section; it is installed into the directory
(target/rally-venv by default) if it is not there. All of its processes count. As most of what a short race of it costs is its
start and its end, it runs twice, and what counts is the difference between the longer race and the shorter one.
"""
import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import original
import stand_in
from cluster import free_port

ROOT = original.ROOT
WHOLE_TREE = pathlib.Path(__file__).with_name("whole_tree.py")
HOST = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
SEARCH = f"http://{HOST}/logs/_search"
QUERY = {"query": {"match_all": {}}}
DOCUMENTS = 200_000

NGINX = """
load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  tcp_nodelay on;
  client_body_buffer_size 8m;
  client_max_body_size 64m;
  default_type application/json;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  init_by_lua_block { bulk = io.open("DIRECTORY/bulk.json"):read("*a") }
  map $uri $search { default 'ANSWER'; }
  server {
    listen HOST backlog=4096;
    location = /logs/_search { return 200 $search; }
    location = /_bulk { content_by_lua_block { ngx.req.read_body() ngx.header.content_length = #bulk ngx.print(bulk) } }
    location = /status { stub_status; }
    CONTROL
  }
}
"""

# What Rally asks before and after its load, and the path by which the stand-in is asked for an answer.
CONTROL = {
    "= /": "/",
    "/_cluster/health": "/_cluster/health",
    "/_cluster/state": "/_cluster/state",
    "/_nodes": "/_nodes",
    "~ ^/_nodes.*/stats": "/_nodes/stats",
    "~ ^(/[^/]+)?/_stats": "/_stats",
    "~ /_search$": "/any/_search",
}

WRK = """
wrk.method = "POST"
wrk.body = '{"query":{"match_all":{}}}'
wrk.headers["content-type"] = "application/json"
"""


def answers():
    hits = [
        {"_index": "logs", "_id": f"{i:020}", "_score": 1.0, "_source": {"@timestamp": 1700000000 + i, "message": "x" * 160}}
        for i in range(10)
    ]
    search = {"took": 3, "timed_out": False, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0}}
    search["hits"] = {"total": {"value": 10000, "relation": "gte"}, "max_score": 1.0, "hits": hits}
    shards = {"total": 2, "successful": 1, "failed": 0}
    item = {"_index": "logs", "_id": "0" * 20, "_version": 1, "result": "created", "_shards": shards, "status": 201}
    bulk = {"took": 30, "errors": False, "items": [{"index": item}] * 1000}
    return json.dumps(search, separators=(",", ":")), json.dumps(bulk, separators=(",", ":"))


class Server:
    """nginx on the first core."""

    def __init__(self, directory, realtime):
        self.priority = ["chrt", "-f", "10"] if realtime else []
        search, bulk = answers()
        (directory / "bulk.json").write_text(bulk)
        (directory / "post.lua").write_text(WRK)
        control = []
        for location, path in CONTROL.items():
            _, found = stand_in.answer(stand_in.Request(None, "GET", path, "", b""), stand_in.State())
            control.append(f"location {location} {{ add_header x-elastic-product Elasticsearch; return 200 '{json.dumps(found)}'; }}")
        text = NGINX.replace("CONTROL", "\n    ".join(control)).replace("DIRECTORY", str(directory)).replace("HOST", HOST).replace("ANSWER", search)
        (directory / "nginx.conf").write_text(text)
        (directory / "modules").symlink_to("/usr/lib/nginx/modules")
        nginx = ["nginx", "-p", f"{directory}/", "-c", f"{directory}/nginx.conf", "-g", "daemon off;"]
        self.process = subprocess.Popen(["taskset", "-c", "0", *self.priority, *nginx])
        for _ in range(100):
            try:
                self.requests()
                break
            except OSError:
                time.sleep(0.05)

    def requests(self):
        """Requests so far, this one included."""
        with urllib.request.urlopen(f"http://{HOST}/status", timeout=10) as answer:
            return int(answer.read().split()[9])

    def freeze(self, seconds):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        workers = [int(pid) for pid in children.stdout.split()]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def run(server, command, during=None, environment=None):
    """Runs a generator on the second core: its output, CPU seconds, memory in MiB, and how many requests arrived."""
    before = server.requests()
    helper = threading.Thread(target=during) if during else None
    with tempfile.TemporaryFile("w+") as output:
        command = ["taskset", "-c", "1", *server.priority, *map(str, command)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        if helper:
            helper.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if helper:
            helper.join()
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{text}")
    requests = server.requests() - before - 1
    return text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, requests


class Original:
    """The original Rally, with a home directory of its own."""

    def __init__(self, venv, directory):
        self.program, self.home = original.install(venv.absolute()), directory / "rally"
        self.home.mkdir()
        # One worker, as there is one core for it.
        original.configure(self.home, 1)
        self.races = 0

    def race(self, server, task, operation=None, corpus=None, during=None):
        """Races one task: the lines of the report by metric, CPU seconds, and how many requests arrived for it."""
        self.races += 1
        operation = operation or {"operation-type": "raw-request", "path": "/logs/_search", "method": "POST", "body": QUERY}
        track, report = self.home / f"track{self.races}", self.home / f"report{self.races}.csv"
        track.mkdir()
        description = {"version": 2, "schedule": [{**task, "name": "task", "operation": {"name": "task", **operation}}]}
        if corpus:
            (track / "documents.json").symlink_to(corpus)
            documents = {"source-file": "documents.json", "document-count": DOCUMENTS, "target-index": "logs"}
            description["corpora"] = [{"name": "logs", "documents": [documents]}]
        (track / "track.json").write_text(json.dumps(description))
        command = [
            self.program, "race", "--pipeline=benchmark-only", "--offline", f"--track-path={track}", f"--target-hosts={HOST}",
            "--report-format=csv", f"--report-file={report}",
        ]
        environment = original.environment(self.program, self.home)
        (self.home / "command.json").write_text(json.dumps(list(map(str, command))))
        _, cpu, _, requests = run(server, [sys.executable, WHOLE_TREE, self.home / "command.json"], during, environment)
        with open(report) as file:
            return {line["Metric"]: line["Value"] for line in csv.DictReader(file) if line["Task"]}, cpu, requests

    def cost(self, server, seconds, task, operation=None, corpus=None):
        """CPU seconds for a million requests, and requests per second, without what start and end cost."""
        short, long = 5, 5 + max(seconds, 10)
        _, base, before = self.race(server, {**task, "time-period": short}, operation, corpus)
        _, cpu, requests = self.race(server, {**task, "time-period": long}, operation, corpus)
        return (cpu - base) / (requests - before) * 1e6, (requests - before) / (long - short)

    def times(self, server, task, kind, keys, during=None):
        lines, *_ = self.race(server, task, during=during)
        return {key: float(lines[f"{name} {kind}"]) for key, name in keys.items()}


class Generators:
    def __init__(self, ours, args, original, directory):
        self.ours, self.oha, self.wrk2 = ours, args.oha, args.wrk2
        self.original, self.directory = original, directory

    def rally(self, task, operation=None, url=SEARCH, *documents):
        operation = operation or {"operation-type": "raw-request", "method": "POST", "body": QUERY}
        return [self.ours, url, json.dumps(task), json.dumps(operation), *documents]

    def wrk(self, clients, seconds, *options, binary="wrk"):
        return [binary, "-t1", f"-c{clients}", f"-d{seconds}s", "-s", self.directory / "post.lua", *options, SEARCH]

    def oha_of(self, clients, seconds, *options):
        body = ["-m", "POST", "-H", "content-type: application/json", "-d", json.dumps(QUERY)]
        return [self.oha, "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-c", clients, *body, *options, SEARCH]

    def wrk2_times(self, server, clients, seconds, rate, kind, during=None):
        """Percentiles in ms: of the `Recorded` latency, or of the `Uncorrected` one, which is a service time."""
        # In longer runs it leaves out the first ten seconds.
        command = self.wrk(clients, min(seconds, 9), f"-R{rate}", "--latency", "--u_latency", binary=self.wrk2)
        text, *_ = run(server, command, during)
        units = {"us": 1e-3, "ms": 1, "s": 1e3}
        lines = re.search(rf"HdrHistogram - {kind} Latency.*?\n\n", text, re.DOTALL)[0]
        found = re.findall(r"^ *([\d.]+)% +([\d.]+)(us|ms|s) *$", lines, re.MULTILINE)
        return {f"{float(share):g}": float(value) * units[unit] for share, value, unit in found}

    def closed(self, clients, seconds):
        yield "wrk", self.wrk(clients, seconds)
        if self.oha:
            yield "oha", self.oha_of(clients, seconds)
        yield "rally", self.rally({"clients": clients, "time-period": seconds})


def closed(server, generators, args):
    print("\n## Closed loop\n\n| connections | generator | requests/s | CPU s per million | against wrk |\n| --- | --- | --- | --- | --- |")
    for clients in (32, 1):
        rounds = {}
        for _ in range(args.rounds):
            for name, command in generators.closed(clients, args.seconds):
                _, cpu, _, requests = run(server, command)
                rounds.setdefault(name, []).append((requests / args.seconds, cpu / requests * 1e6))
        wrk = [cost for _, cost in rounds["wrk"]]
        for name, figures in rounds.items():
            rate, cost = (statistics.median(column) for column in zip(*figures))
            ratio = statistics.median(cost / base for (_, cost), base in zip(figures, wrk))
            print(f"| {clients} | {name} | {rate:,.0f} | {cost:.1f} | {ratio:.2f} |")
        if generators.original:
            cost, rate = generators.original.cost(server, args.seconds, {"clients": clients})
            ours = statistics.median(cost for _, cost in rounds["rally"])
            against = cost / statistics.median(wrk)
            print(f"| {clients} | Rally 2.13.0, {cost / ours:.0f} times ours | {rate:,.0f} | {cost:.1f} | {against:.2f} |")


def memory(server, generators, args):
    command = generators.rally({"clients": 1000, "time-period": args.seconds})
    _, _, mib, requests = run(server, command)
    print(f"\n## Memory\n\n1,000 clients: {mib:.0f} MiB at most, {requests:,} requests")


def bulk(server, generators, args):
    corpus = generators.directory / "logs"
    corpus.mkdir()
    with open(corpus / "documents.json", "w") as file:
        for i in range(DOCUMENTS):
            line = {"@timestamp": 1700000000 + i, "host": f"10.0.{i % 256}.7", "message": "", "size": i}
            line["message"] = "m" * (267 - len(json.dumps(line)))
            file.write(json.dumps(line) + "\n")
    operation = {"operation-type": "bulk", "bulk-size": 1000, "looped": True}
    task = {"clients": 8, "time-period": args.seconds}
    costs = []
    for _ in range(args.rounds):
        command = generators.rally(task, operation, f"http://{HOST}/", corpus / "documents.json", DOCUMENTS)
        text, cpu, _, _ = run(server, command)
        report = json.loads(text)
        costs.append((cpu / report["work"] * 1e6, report["work"] / args.seconds))
    cost, rate = (statistics.median(column) for column in zip(*costs))
    print(f"\n## Bulk\n\n1,000 documents of 268 bytes: {cost:.2f} CPU s per million documents, {rate:,.0f} documents/s")
    if generators.original:
        theirs, rate = generators.original.cost(server, args.seconds, {"clients": 8}, operation, corpus / "documents.json")
        # A request is a bulk of 1,000 documents.
        theirs, rate = theirs / 1000, rate * 1000
        print(f"Rally 2.13.0: {theirs:.2f} CPU s, {theirs / cost:.0f} times ours, {rate:,.0f} documents/s")


def times(name, rate, report, keys):
    values = " | ".join(f"{report[key]:.3f}" for key in keys)
    print(f"| {rate} | {name} | {values} |")


def open_loop(server, generators, args):
    print("\n## Open loop\n\nService time in ms.\n\n| requests/s | generator | p50 | p99 | p99.9 |\n| --- | --- | --- | --- | --- |")
    lags = {}
    for rate in (500, 2000, 5000):
        if generators.oha:
            text, *_ = run(server, generators.oha_of(8, args.seconds, "-q", rate))
            found = json.loads(text)["latencyPercentiles"]
            times("oha", rate, {key: value * 1e3 for key, value in found.items() if value}, ("p50", "p99", "p99.9"))
        if generators.wrk2:
            found = generators.wrk2_times(server, 8, args.seconds, rate, "Uncorrected")
            times("wrk2, uncorrected", rate, found, ("50", "99", "99.9"))
        task = {"clients": 8, "time-period": args.seconds, "target-throughput": rate}
        text, *_ = run(server, generators.rally(task))
        report = json.loads(text)
        times("rally", rate, report["service_time_ms"], ("50", "99", "99.9"))
        if generators.original and rate <= 2000:
            found = generators.original.times(server, task, "service time", {"50": "50th percentile", "99": "99th percentile",
                                                                             "99.9": "99.9th percentile"})
            times("Rally 2.13.0", rate, found, ("50", "99", "99.9"))
        lags[f"{rate}, 8 clients at the same instants"] = report["dispatch_lag_ms"]
        # Clients that begin together want to send at the same instants, as in Rally; poisson tells them apart.
        text, *_ = run(server, generators.rally({**task, "schedule": "poisson"}))
        report = json.loads(text)
        times("rally, poisson", rate, report["service_time_ms"], ("50", "99", "99.9"))
        lags[f"{rate}, poisson"] = report["dispatch_lag_ms"]
    print("\nDispatch lag in ms.\n\n| requests/s | p50 | p99 | p99.9 | max |\n| --- | --- | --- | --- | --- |")
    for name, lag in lags.items():
        print(f"| {name} | " + " | ".join(f"{lag[key]:.3f}" for key in ("50", "99", "99.9", "100")) + " |")


def freeze(server, generators, args):
    print("\n## The target frozen for a second at 500 requests/s\n\nLatency in ms.\n")
    print("| generator | p90 | p99 | p99.9 | max |\n| --- | --- | --- | --- | --- |")
    seconds = max(args.seconds, 5)

    def during():
        # Rally needs a while until it sends anything.
        enough = server.requests() + 300
        while server.requests() < enough:
            # This has been a request, too.
            enough += 1
            time.sleep(0.1)
        time.sleep(seconds / 4)
        server.freeze(1)

    if generators.oha:
        text, *_ = run(server, generators.oha_of(32, seconds, "-q", 500, "--latency-correction"), during)
        report = json.loads(text)
        found = [report["latencyPercentiles"][key] * 1e3 for key in ("p90", "p99", "p99.9")]
        print("| oha, corrected | " + " | ".join(f"{value:.0f}" for value in [*found, report["summary"]["slowest"] * 1e3]) + " |")
    if generators.wrk2:
        found = generators.wrk2_times(server, 32, seconds, 500, "Recorded", during)
        print("| wrk2, corrected | " + " | ".join(f"{found[key]:.0f}" for key in ("90", "99", "99.9", "100")) + " |")
    task = {"clients": 32, "time-period": seconds, "target-throughput": 500}
    text, *_ = run(server, generators.rally(task), during)
    found = json.loads(text)["latency_ms"]
    print("| rally | " + " | ".join(f"{found[key]:.0f}" for key in ("90", "99", "99.9", "100")) + " |")
    if generators.original:
        keys = {"90": "90th percentile", "99": "99th percentile", "99.9": "99.9th percentile", "100": "100th percentile"}
        found = generators.original.times(server, task, "latency", keys, during)
        print("| Rally 2.13.0 | " + " | ".join(f"{value:.0f}" for value in found.values()) + " |")


SECTIONS = {"closed": closed, "memory": memory, "bulk": bulk, "open": open_loop, "freeze": freeze}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="SECTION")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--oha", default=shutil.which("oha"))
    parser.add_argument("--wrk2", default=shutil.which("wrk2"))
    parser.add_argument("--rally", type=pathlib.Path, nargs="?", const=original.VENV)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--generator", help="a binary that is built already")
    args = parser.parse_args()
    ours = args.generator
    if not ours:
        build = ["cargo", "build", "--quiet", "--release", "-p", "benches", "--example", "generate"]
        subprocess.run(build, check=True, cwd=ROOT)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        ours = target / "release" / "examples" / "generate"
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        server = Server(directory, args.realtime)
        try:
            generators = Generators(ours, args, args.rally and Original(args.rally, directory), directory)
            for section in args.sections or SECTIONS:
                SECTIONS[section](server, generators, args)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
