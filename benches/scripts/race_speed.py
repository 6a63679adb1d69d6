#!/usr/bin/env python3
"""Measure how fast races begin, go from step to step, and notice a driver that was killed.

    benches/scripts/race_speed.py [--rounds N] [--program PATH] [--rally [DIRECTORY]]

Starts a coordinator and two members on loopback, all three of which drive, and a target that does nothing but note when a
request arrives. Everything is taken down at the end. The program is target/release/rallyd unless told otherwise. With --rally,
the original Rally 2.13.0 runs the race of one request, too, three times; it is installed into the directory
(target/rally-venv by default) if it is not there.
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

import original
import stand_in
from cluster import Cluster, free_port

ROOT = original.ROOT
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-elastic-product: Elasticsearch\r\ncontent-length: "
STEP = HEAD + b"2\r\n\r\n{}"


class Target(asyncio.Protocol):
    """Answers every request as the stand-in does, and notes when those to `/step/N` arrived."""

    arrivals: list[tuple[str, float]] = []
    state = stand_in.State()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        now = time.perf_counter()
        if b" HTTP/1.1\r\n" not in data:
            # The body of the request before.
            return
        method, path = data.split(b" ", 2)[:2]
        if path.startswith(b"/step/"):
            Target.arrivals.append((path.decode(), now))
            self.transport.write(STEP)
        else:
            path, _, query = path.decode(errors="replace").partition("?")
            _, found = stand_in.answer(stand_in.Request(None, method.decode(), path, query, b"{}"), Target.state)
            body = json.dumps(found).encode()
            self.transport.write(HEAD + str(len(body)).encode() + b"\r\n\r\n" + (b"" if method == b"HEAD" else body))


def operation(step):
    return {"operation-type": "raw-request", "path": f"/step/{step}"}


def track(home, name, schedule):
    directory = home / name
    directory.mkdir()
    (directory / "track.json").write_text(json.dumps({"version": 2, "schedule": schedule}))
    return directory


async def race(cluster, track, target):
    """Runs a race; gives when it was asked for, when its requests arrived, and when the command had ended."""
    Target.arrivals.clear()
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *cluster.command(track, target), env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(errors.decode())
    return start, list(Target.arrivals), time.perf_counter()


async def killed_driver(cluster, endless, target):
    """Seconds from the death of a driver to the line that names it, and to the end of the command that shows its race."""
    Target.arrivals.clear()
    process = await asyncio.create_subprocess_exec(
        *cluster.command(endless, target), env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = []

    async def read():
        while line := await process.stderr.readline():
            lines.append((time.perf_counter(), line.decode(errors="replace")))

    reading = asyncio.create_task(read())
    while not Target.arrivals:
        assert process.returncode is None, "the race has ended before it was to lose a driver"
        await asyncio.sleep(0.01)
    os.kill(cluster.pid(cluster.ports[2]), signal.SIGKILL)
    start = time.perf_counter()
    await process.wait()
    took = time.perf_counter() - start
    await reading
    # Lines before its death may name it, too.
    named = [at - start for at, line in lines if at > start and str(cluster.ports[2]) in line]
    assert process.returncode == 64 and named, "".join(line for _, line in lines)
    cluster.start(cluster.ports[2])
    return named[0], took


async def race_original(program, home, track, target):
    """The same race of one request with the original: seconds to the request, and to the end of the command."""
    Target.arrivals.clear()
    original.configure(home, os.cpu_count())
    start = time.perf_counter()
    arguments = [f"--track-path={track}", f"--target-hosts=127.0.0.1:{target}"]
    await asyncio.to_thread(original.race, program, arguments, original.environment(program, home))
    end = time.perf_counter()
    return Target.arrivals[0][1] - start, end - start


def show(name, seconds, target, original=()):
    millis = sorted(1e3 * value for value in seconds)
    theirs = f"{statistics.median(original):.1f} s" if original else ""
    print(f"| {name} | {target} | {statistics.median(millis):.1f} ms | {millis[0]:.1f} to {millis[-1]:.1f} ms | {theirs} |", flush=True)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--program", default=str(ROOT / "target/release/rallyd"))
    parser.add_argument("--rally", type=pathlib.Path, nargs="?", const=original.VENV)
    arguments = parser.parse_args()
    rally = arguments.rally and original.install(arguments.rally.absolute())
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
        cluster = Cluster(arguments.program, home, 3)
        try:
            await race(cluster, one, target)
            races = [await race(cluster, one, target) for _ in range(arguments.rounds)]
            gaps, skews = [], []
            for _ in range(max(1, arguments.rounds // 3)):
                _, arrivals, _ = await race(cluster, steps, target)
                times = [at for _, at in arrivals]
                gaps += [after - before for before, after in zip(times, times[1:])]
                _, arrivals, _ = await race(cluster, together, target)
                by_step = {}
                for path, at in arrivals:
                    by_step.setdefault(path, []).append(at)
                skews += [max(times) - min(times) for times in by_step.values()]
            kills = [await killed_driver(cluster, endless, target) for _ in range(3)]
            theirs = [await race_original(rally, home, one, target) for _ in range(3)] if rally else []
            print("| what | target | median | all | the original |\n| --- | --- | --- | --- | --- |")
            show("from the command to the first request", [arrivals[0][1] - start for start, arrivals, _ in races], "300 ms",
                 [first for first, _ in theirs])
            show("a whole race of one request, to the end of the command", [end - start for start, _, end in races], "2 s",
                 [whole for _, whole in theirs])
            show("from a request to the one of the next step", gaps, "50 ms")
            show("between the first requests of three drivers in one step", skews, "1 ms")
            show("from the death of a driver to the line that names it", [named for named, _ in kills], "5 s")
            show("from the death of a driver to the end of its race", [end for _, end in kills], "5 s")
        finally:
            cluster.stop()
            server.close()



if __name__ == "__main__":
    asyncio.run(main())
