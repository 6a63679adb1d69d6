#!/usr/bin/env python3
"""Compare how long `rally-core` and the original Rally take to load the same track, in the same run.

    benches/scripts/track_loading.py TRACK_DIRECTORY [--rounds N]

Installs Rally 2.13.0 from PyPI into a virtual environment (`target/rally-venv`) at the first run. Each side loads the track
several times within one process, so that neither starting Python nor starting our binary counts; the best rounds are
compared. Both read the files, render the templates, check the result and build the model.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / "target" / "rally-venv"

RALLY = """
import json, logging, os, sys, time
logging.disable(logging.CRITICAL)
import esrally
from esrally import config
from esrally.track import loader
directory, rounds = sys.argv[1], int(sys.argv[2])
cfg = config.Config()
cfg.add(config.Scope.application, "node", "rally.root", os.path.dirname(esrally.__file__))
cfg.add(config.Scope.application, "track", "params", {})
times = []
for _ in range(rounds):
    start = time.perf_counter()
    loader.TrackFileReader(cfg).read("track", os.path.join(directory, "track.json"), directory)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def rally_times(directory, rounds):
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "esrally==2.13.0"], check=True)
    done = subprocess.run([python, "-c", RALLY, directory, str(rounds)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def our_times(directory, rounds):
    command = ["cargo", "run", "--quiet", "--release", "-p", "benches", "--example", "load_track", "--"]
    done = subprocess.run([*command, directory, str(rounds)], check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track")
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    directory = os.path.abspath(args.track)
    ours = min(our_times(directory, args.rounds))
    theirs = min(rally_times(directory, args.rounds))
    print(f"rally-core: {ours * 1000:.2f} ms, Rally 2.13.0: {theirs * 1000:.2f} ms, ratio {theirs / ours:.0f}")


if __name__ == "__main__":
    sys.exit(main())
