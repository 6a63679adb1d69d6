#!/usr/bin/env python3
"""Measure that a race of many requests takes the memory of one of few.

    benches/scripts/race_memory.py [--program PATH] [--few N] [--many N] [--clients N]

Starts a coordinator and a driver on loopback for each of two races: one of ten thousand requests and one of ten million, unless
told otherwise. The driver answers its requests itself (`static_responses`), as many a second as one core can send to a server;
everything that is measured is recorded and archived as usual, raw samples included. Shown is the most resident memory that each of the
two processes has had. The program is target/release/rallyd unless told otherwise.
"""
import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import time

import original
import stand_in
from cluster import Cluster


# Requests a second, which is about what one core sends to a server over HTTP.
RATE = 100_000


def peak(pid):
    """The most resident memory of a process so far, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def race(program, home, requests, clients, target):
    """Races so many requests: peaks before and after of coordinator and driver, seconds, and samples of the archive."""
    home.mkdir()
    answers, track = home / "answers.json", home / "track"
    answers.write_text(json.dumps([{"path": "/memory", "body": {"took": 1}}]))
    track.mkdir()
    operation = {"operation-type": "raw-request", "path": "/memory"}
    task = {"name": "memory", "clients": clients, "iterations": requests // clients, "target-throughput": RATE, "operation": operation}
    (track / "track.json").write_text(json.dumps({"version": 2, "schedule": [task]}))
    cluster = Cluster(program, home, 2)
    try:
        pids = [cluster.pid(port) for port in cluster.ports]
        before = [peak(pid) for pid in pids]
        start = time.monotonic()
        options = [f"--client-options=static_responses:'{answers}'", "--quiet"]
        done = subprocess.run(cluster.command(track, target, cluster.ports[1:], options), env=cluster.env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the race failed:\n{done.stdout}\n{done.stderr}")
        # Samples that were not written, for one.
        for line in done.stderr.splitlines():
            if "WARNING" in line:
                print(line)
        return before, [peak(pid) for pid in pids], time.monotonic() - start
    finally:
        cluster.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(original.ROOT / "target/release/rallyd"))
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    print("| requests | seconds | coordinator: idle, at most | driver: idle, at most |\n| --- | --- | --- | --- |")
    peaks = []
    with tempfile.TemporaryDirectory() as directory, stand_in.Server() as server:
        for requests in (arguments.few, arguments.many):
            home = pathlib.Path(directory) / str(requests)
            before, after, took = race(arguments.program, home, requests, arguments.clients, server.server_address[1])
            cells = " | ".join(f"{idle:.1f}, {most:.1f} MiB" for idle, most in zip(before, after))
            print(f"| {requests:,} | {took:.1f} | {cells} |", flush=True)
            peaks.append(after)
    ratios = [many / few for few, many in zip(*peaks)]
    print(f"\nThe many take {ratios[0]:.2f} times the memory of the few on the coordinator, and {ratios[1]:.2f} times on the driver.")


if __name__ == "__main__":
    main()
