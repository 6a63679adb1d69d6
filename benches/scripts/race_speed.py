#!/usr/bin/env python3
"""Measure how fast races begin, go from step to step, and notice a driver that was killed.

    benches/scripts/race_speed.py [--rounds N] [--program PATH]

Starts a coordinator and two members on loopback, all three of which drive, and a target that does nothing but note when a
request arrives. Everything is taken down at the end. The program is target/release/rallyd unless told otherwise.
"""
import argparse
import asyncio
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY = b'{"version":{"number":"8.15.0","build_flavor":"default"},"tagline":"You Know, for Search"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-elastic-product: Elasticsearch\r\ncontent-length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


class Target(asyncio.Protocol):
    """Answers every request, and notes when those to `/step/N` arrived."""

    arrivals: list[tuple[str, float]] = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        now = time.perf_counter()
        path = data.split(b" ", 2)[1].decode(errors="replace") if b" " in data else ""
        if path.startswith("/step/"):
            Target.arrivals.append((path, now))
        self.transport.write(ANSWER)


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def operation(step):
    return {"operation-type": "raw-request", "path": f"/step/{step}"}


def track(home, name, schedule):
    directory = home / name
    directory.mkdir()
    (directory / "track.json").write_text(json.dumps({"version": 2, "schedule": schedule}))
    return directory


class Cluster:
    def __init__(self, program, home):
        self.program = program
        self.env = {"RALLY_HOME": str(home), "PATH": os.environ["PATH"]}
        self.ports = [free_port(socket.SOCK_DGRAM) for _ in range(3)]
        for port in self.ports:
            self.start(port)

    def start(self, port):
        coordinator = f"--coordinator-ip=127.0.0.1:{self.ports[0]}"
        subprocess.run(
            [self.program, "start", "--node-ip=127.0.0.1", coordinator, f"--port={port}"],
            env=self.env, check=True, stderr=subprocess.DEVNULL,
        )

    def pid(self, port):
        status = subprocess.run([self.program, "status", "--format=json", f"--port={port}"], env=self.env, check=True,
                                capture_output=True)
        return json.loads(status.stdout)["hosts"][0]["pid"]

    def command(self, track, target):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return [self.program, "race", f"--track-path={track}", f"--target-hosts=127.0.0.1:{target}",
                f"--load-driver-hosts={hosts}", f"--port={self.ports[1]}"]

    async def race(self, track, target):
        """Runs a race; gives when it was asked for, when its requests arrived, and when the command had ended."""
        Target.arrivals.clear()
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *self.command(track, target), env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise SystemExit(errors.decode())
        return start, list(Target.arrivals), time.perf_counter()

    def stop(self):
        subprocess.run([self.program, "stop", "--all"], env=self.env, check=False, stderr=subprocess.DEVNULL)


async def killed_driver(cluster, endless, target):
    """Seconds from the death of a driver to the end of the command that shows its race."""
    Target.arrivals.clear()
    process = await asyncio.create_subprocess_exec(
        *cluster.command(endless, target), env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not Target.arrivals:
        await asyncio.sleep(0.01)
    os.kill(cluster.pid(cluster.ports[2]), signal.SIGKILL)
    start = time.perf_counter()
    _, errors = await process.communicate()
    took = time.perf_counter() - start
    assert process.returncode == 64 and str(cluster.ports[2]).encode() in errors, errors.decode()
    cluster.start(cluster.ports[2])
    return took


def show(name, seconds, target):
    millis = sorted(1e3 * value for value in seconds)
    median = statistics.median(millis)
    print(f"| {name} | {target} | {median:.1f} ms | {millis[0]:.1f} to {millis[-1]:.1f} ms |", flush=True)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--program", default=str(ROOT / "target/release/rallyd"))
    arguments = parser.parse_args()
    target = free_port(socket.SOCK_STREAM)
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", target)
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        one = track(home, "one", [{"operation": operation(1), "name": "one"}])
        steps = track(home, "steps", [{"operation": operation(n), "name": f"s{n}"} for n in range(1, 21)])
        # Each driver has one client; its first request opens the connection, the second one begins at once behind it.
        together = track(home, "together", [
            {"operation": operation(n), "name": f"t{n}", "clients": 3} for n in range(1, 6)])
        endless = track(home, "endless", [
            {"operation": operation(1), "name": "endless", "clients": 3, "target-throughput": 30, "time-period": 3600}])
        cluster = Cluster(arguments.program, home)
        try:
            await cluster.race(one, target)
            races = [await cluster.race(one, target) for _ in range(arguments.rounds)]
            gaps, skews = [], []
            for _ in range(max(1, arguments.rounds // 3)):
                _, arrivals, _ = await cluster.race(steps, target)
                times = [at for _, at in arrivals]
                gaps += [after - before for before, after in zip(times, times[1:])]
                _, arrivals, _ = await cluster.race(together, target)
                by_step = {}
                for path, at in arrivals:
                    by_step.setdefault(path, []).append(at)
                skews += [max(times) - min(times) for times in by_step.values()]
            kills = [await killed_driver(cluster, endless, target) for _ in range(3)]
            print("| what | target | median | all |\n| --- | --- | --- | --- |")
            show("from the command to the first request", [arrivals[0][1] - start for start, arrivals, _ in races], "300 ms")
            show("a whole race of one request, to the end of the command", [end - start for start, _, end in races], "2 s")
            show("from a request to the one of the next step", gaps, "50 ms")
            show("between the first requests of three drivers in one step", skews, "1 ms")
            show("from the death of a driver to the end of its race", kills, "5 s")
        finally:
            cluster.stop()
            server.close()


asyncio.run(main())
