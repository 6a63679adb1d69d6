#!/usr/bin/env python3
"""Race the same tracks with the original Rally 2.13.0 and with `rallyd`, and compare what arrives and what is measured.

    benches/scripts/differential.py [--rallyd BINARY] [--venv DIRECTORY] [RACE ...]

Both race against a stand-in for Elasticsearch in this process that writes down every request. The race `types` runs every type
of operation once with one client; `load` has several clients, warm-up, schedules and parallel tasks. What has to be the same:

- the requests of each client (method, path, query, body) in the same order; clients are told by API keys of their own;
- the samples of each task and client: how many of warm-up and not, their weights, units, success and what runners say of them;
- the lines of the report with their units and error rates; for tasks with a known service time also throughput, service time
  and latency, within the noise below.

Departures are named below with their reason; any other difference is a fault. Rally is installed from PyPI into a virtual
environment (`target/rally-venv` by default) at the first run. Needs git, for Rally.
"""
import argparse
import collections
import csv
import difflib
import hashlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

import differential_tracks as tracks
import original
import stand_in

RACES = {
    # In test mode Rally does not wait between steps. Its tasks have one iteration, and its corpus is small, as it asks for.
    "types": (tracks.EVERY_TYPE, tracks.DOCUMENTS, 1, ["--test-mode", "--on-error=abort"]),
    "load": (tracks.LOAD, tracks.MANY_DOCUMENTS, tracks.CLIENTS, ["--on-error=continue"]),
}

# What is measured of tasks whose answers take a known time, and how far it may be apart: by this share, and by so many
# milliseconds in addition, which the stand-in, a program of one thread, takes now and then.
NOISE = {
    "Median Throughput": (0.1, 0),
    "50th percentile service time": (0.3, 10),
    "50th percentile latency": (0.3, 15),
}
THROTTLED = {"throttled", "by-time", "leading", "index-at-a-rate"}
TIMED = THROTTLED | {"unthrottled"}
# A machine that was busy with something else may have been late; races in which nothing but times differs are run again.
TRIES = 2
# Tasks that end by the clock or with another task, and how far their numbers of requests and samples may be apart. What ends
# with another task has a rate, and so many requests until then.
BY_THE_CLOCK, CLOCK_NOISE = {"by-time": " /timed-by-time/", "beside": " /timed-beside/"}, 0.2
UNTIL_COMPLETED = {"beside": 2 * 59}

# What differs on purpose, each with its reason. One that is not found any more is a fault, too.
DEPARTURES = {
    "drawn ids": "which ids conflict is drawn, here from a seed of the race; documents and the share of conflicts are the same",
    "unnamed inner operations": "one without a name within a composite one counts under its type, not the name of its task",
    "completed by another task": "tasks end with their request, not when their worker looks again, which it does every 5 s",
    "partial profiles": "`esql-profile` says, too, whether results are partial",
    "texts of errors": "type and reason are taken out of what the cluster says; the original shows the whole answer",
}
CONFLICTS, CONFLICTS_NOISE = "timeout=conflicts", 0.1


class Race:
    """What a race left behind: its requests, samples, and lines of its report."""

    def __init__(self, seen, samples, report):
        self.requests = collections.defaultdict(list)
        for request in seen:
            if request.client is not None:
                self.requests[request.client].append(request)
        self.samples = samples
        with open(report) as file:
            self.lines = {(row["Metric"], row["Task"]): row for row in csv.DictReader(file)}

    def conflicts(self):
        """The bulks with ids that are drawn: their ids, their documents, and the share of those that are updated."""
        ids, documents, updates = [], [], 0
        for request in itertools.chain(*self.requests.values()):
            if CONFLICTS in request.query:
                lines = request.body.split(b"\n")
                for action, document in zip(lines[::2], lines[1::2]):
                    (kind, target), = json.loads(action).items()
                    updates += kind == "update"
                    ids.append(target["_id"])
                    documents.append(json.loads(document)["doc"] if kind == "update" else json.loads(document))
        return ids, documents, updates / max(1, len(ids))


def shown(request):
    """A request as a line, without what may differ: the order of query parameters and JSON keys, and how they are escaped."""
    path = "/".join(urllib.parse.quote(urllib.parse.unquote(part), safe="*,") for part in request.path.split("/"))
    query = sorted(urllib.parse.parse_qsl(request.query, keep_blank_values=True))
    return " ".join(filter(None, [request.method, path, "&".join("=".join(pair) for pair in query), canonical(request)]))


def canonical(request):
    """JSON is read; bulks, which are long, become a hash."""
    if request.path.endswith("_bulk"):
        lines = request.body.split(b"\n")
        pairs = [(json.loads(action), document) for action, document in zip(lines[::2], lines[1::2])]
        digest = "" if CONFLICTS in request.query else hashlib.sha256(repr(pairs).encode()).hexdigest()[:16]
        return f"{len(pairs)} documents {digest}"
    try:
        return json.dumps(json.loads(request.body), sort_keys=True) if request.body else ""
    except ValueError:
        return repr(request.body)


class Comparison:
    def __init__(self, name, theirs, ours, departures):
        self.name, self.theirs, self.ours = name, theirs, ours
        self.departures, self.same, self.faults = departures, collections.Counter(), []
        self.is_only_late = True

    def fault(self, text):
        self.faults.append(f"{self.name}: {text}")
        self.is_only_late = False

    def expect(self, kind, is_same, text, by_the_clock=False):
        if is_same:
            self.same[kind] += 1
        else:
            is_only_late = self.is_only_late and by_the_clock
            self.fault(text)
            self.is_only_late = is_only_late

    def requests(self):
        for client in sorted(self.theirs.requests.keys() | self.ours.requests.keys()):
            sides = [list(map(shown, race.requests.get(client, []))) for race in (self.theirs, self.ours)]
            for task, mark in BY_THE_CLOCK.items():
                clocked = [[line for line in side if mark in line] for side in sides]
                sides = [[line for line in side if mark not in line] for side in sides]
                counts, kinds = [len(side) for side in clocked], [set(side) for side in clocked]
                same = kinds[0] == kinds[1] and (is_near(*counts, CLOCK_NOISE, 2) or task in UNTIL_COMPLETED)
                self.expect("clients by the clock", same, f"client {client} sent {counts} requests of {task}: {kinds}", kinds[0] == kinds[1])
            sides = [list(in_streams(side)) for side in sides]
            difference = "\n  ".join(difflib.unified_diff(*sides, "Rally", "ours", lineterm="", n=1))
            self.expect("clients", sides[0] == sides[1], f"requests of client {client}:\n  {difference}")
            self.same["requests"] += len(sides[0]) if sides[0] == sides[1] else 0
        if (theirs := self.theirs.conflicts()) != (ours := self.ours.conflicts()):
            self.departures.add("drawn ids")
            same = theirs[1] == ours[1] and is_near(theirs[2], ours[2], 0, CONFLICTS_NOISE)
            self.expect("bulks with conflicts", same, f"conflicts: {theirs[2]} and {ours[2]} of the documents are updates")

    def samples(self):
        sides = [collections.defaultdict(collections.Counter) for _ in range(2)]
        for side, race in zip(sides, (self.theirs, self.ours)):
            for sample in race.samples:
                side[sample["task"]][self.key(sample)] += 1
        for task in sorted(sides[0].keys() | sides[1].keys()):
            theirs, ours = sides[0][task], sides[1][task]
            if task in UNTIL_COMPLETED:
                self.departures.add("completed by another task")
                enough = is_near(UNTIL_COMPLETED[task], ours.total(), CLOCK_NOISE, 0)
                same = theirs.keys() == ours.keys() and enough and ours.total() <= theirs.total()
            elif task in BY_THE_CLOCK:
                same = theirs.keys() == ours.keys() and is_near(theirs.total(), ours.total(), CLOCK_NOISE, 4)
            else:
                same = theirs == ours
            only = "\n  ".join([*(f"Rally {key}" for key in theirs - ours), *(f"ours  {key}" for key in ours - theirs)])
            self.expect("tasks", same, f"samples of {task}: {theirs.total()} and {ours.total()}\n  {only}", task in BY_THE_CLOCK)
            self.same["samples"] += ours.total() if same else 0

    def key(self, sample):
        """What of a sample has to be the same."""
        operation = sample["operation"]
        if sample["inner"] and operation in (sample["task"], sample["operation_type"]):
            self.departures.add("unnamed inner operations")
            operation = None
        work = None if sample["inner"] else (sample["weight"], sample["unit"], sample["throughput"])
        meta = dict(sample["meta"])
        if sample["operation_type"] == "esql-profile" and meta.pop("is_partial", None) is not None:
            self.departures.add("partial profiles")
        text = meta.get("error-description", "")
        if text.startswith("{"):
            self.departures.add("texts of errors")
            error = json.loads(text)["error"]
            meta["error-description"] = f"{error['type']} ({error['reason']})"
        # Rally adds up some counts as floats.
        meta = {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in meta.items()}
        meta = json.dumps(meta, sort_keys=True, ensure_ascii=False)
        kind = (operation, sample["operation_type"], sample["inner"], sample["sample_type"])
        return (sample["client"], *kind, work, sample["success"], meta)

    def report(self):
        for metric, task in self.theirs.lines.keys() | self.ours.lines.keys():
            theirs, ours = self.theirs.lines.get((metric, task)), self.ours.lines.get((metric, task))
            if not theirs or not ours or theirs["Unit"] != ours["Unit"]:
                self.fault(f"line `{metric}` of `{task}`: {theirs} and {ours}")
                continue
            values = [float(line["Value"] or "nan") for line in (theirs, ours)]
            same, is_time = True, False
            if not task or metric == "error rate":
                same = values[0] == values[1] or theirs["Value"] == ours["Value"]
            elif metric in NOISE and task in (THROTTLED if "Throughput" in metric else TIMED):
                same, is_time = is_near(*values, *NOISE[metric]), True
                self.same["figures"] += same
            text = f"`{metric}` of `{task}` is {theirs['Value']} {theirs['Unit']}, but {ours['Value']} here"
            self.expect("lines", same, text, is_time)


def is_near(one, other, share, more):
    return abs(one - other) <= share * max(one, other) + more


def in_streams(lines):
    """What is sent side by side has no order between streams, only within each."""
    for side_by_side, group in itertools.groupby(lines, lambda line: bool(re.match(r"GET /stream-[ab]/", line))):
        yield from sorted(group, key=lambda line: line[:13]) if side_by_side else group


def race_original(program, home, name):
    track, options, cores = home / name, RACES[name][3], RACES[name][2]
    samples, report = home / f"{name}.original.jsonl", home / f"{name}.original.csv"
    original.configure(home, cores)
    # Samples are added to what is there.
    samples.unlink(missing_ok=True)
    with stand_in.Server() as server:
        environment = original.environment(program, home, samples)
        original.race(program, [*arguments(track, server, report), *options], environment)
        return Race(server.seen, [json.loads(line) for line in open(samples)], report)


def race_ours(program, python, home, name):
    track, options = home / name, RACES[name][3]
    report = home / f"{name}.ours.csv"
    races = home / ".rally" / "benchmarks" / "races"
    before = set(races.iterdir()) if races.exists() else set()
    with stand_in.Server() as server:
        command = [program, "race", *arguments(track, server, report), *options]
        done = subprocess.run(list(map(str, command)), env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=original.LIMIT)
        if done.returncode:
            sys.exit(f"rallyd failed:\n{done.stdout}\n{done.stderr}")
    archive, = (race for race in races.iterdir() if race not in before and (race / "samples").exists())
    read = subprocess.run([python, "-c", READ_SAMPLES, archive / "samples"], stdout=subprocess.PIPE, text=True, check=True)
    return Race(server.seen, [json.loads(line) for line in read.stdout.splitlines()], report)


def arguments(track, server, report):
    security = "basic_auth_user:'rally',basic_auth_password:'rally',create_api_key_per_client:true,timeout:60"
    return [
        f"--track-path={track}",
        f"--target-hosts={server.address}",
        f"--client-options={security}",
        "--report-format=csv",
        f"--report-file={report}",
    ]


# Run by the Python of the virtual environment, which has pyarrow.
READ_SAMPLES = """
import json, pathlib, sys
import pyarrow.parquet
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.parquet")):
    for row in pyarrow.parquet.read_table(file).drop_columns(["time"]).to_pylist():
        row["meta"] = json.loads(row["meta"] or "{}")
        print(json.dumps(row, default=str))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", choices=[*RACES, []], metavar="RACE")
    parser.add_argument("--rallyd", type=pathlib.Path)
    # Not the program itself: Rally takes every process for its own that has its name among its arguments.
    parser.add_argument("--venv", type=pathlib.Path, default=original.VENV)
    args = parser.parse_args()
    program = original.install(args.venv.absolute())
    rallyd = args.rallyd
    if not rallyd:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "rallyd"], check=True, cwd=original.ROOT)
        rallyd = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", original.ROOT / "target")) / "release" / "rallyd"
    departures, passed, faults = set(), 0, []
    with tempfile.TemporaryDirectory() as directory:
        home = pathlib.Path(directory)
        (home / ".rally").mkdir()
        for name in args.races or RACES:
            tracks.write(home, name, RACES[name][0], RACES[name][1], declared=name == "types")
            for _ in range(TRIES):
                ours = race_ours(rallyd.absolute(), args.venv / "bin" / "python", home, name)
                theirs = race_original(program, home, name)
                comparison = Comparison(name, theirs, ours, departures)
                comparison.requests()
                comparison.samples()
                comparison.report()
                if not comparison.faults or not comparison.is_only_late:
                    break
                print("only times differ:", *comparison.faults, sep="\n", flush=True)
            print(f"{name}: the same " + ", ".join(f"{count} {kind}" for kind, count in comparison.same.items()), flush=True)
            passed += comparison.same.total()
            faults += comparison.faults
    for departure, reason in DEPARTURES.items():
        print(f"departure: {departure}: {reason}")
        if not args.races and departure not in departures:
            faults.append(f"the departure `{departure}` was not found: take it off the list")
    print("\n".join(faults))
    print(f"{passed} passed, {len(faults)} failed")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
