"""The original Rally 2.13.0 from PyPI, in a virtual environment below `target/`, and its races."""
import os
import pathlib
import signal
import subprocess
import sys
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / "target" / "rally-venv"
# pyarrow reads the samples of our archive.
PACKAGES = ["esrally==2.13.0", "pyarrow"]
HOOKS = pathlib.Path(__file__).parent / "original_hooks"

# How long Rally waits for the processes of another race of its own on this machine, and a race may take, in seconds.
PATIENCE, LIMIT = 120, 240

CONFIGURATION = """
[meta]
config.version = 17
[system]
env.name = local
available.cores = CORES
[node]
root.dir = HOME/.rally/benchmarks
src.root.dir = HOME/.rally/benchmarks/src
[source]
remote.repo.url = https://github.com/elastic/elasticsearch.git
elasticsearch.src.subdir = elasticsearch
[benchmarks]
local.dataset.cache = HOME/.rally/benchmarks/data
[reporting]
datastore.type = in-memory
[tracks]
default.url = https://github.com/elastic/rally-tracks
[teams]
default.url = https://github.com/elastic/rally-teams
[defaults]
preserve_benchmark_candidate = false
[distributions]
release.cache = true
"""


def install(directory):
    """The program `esrally`, which is installed if it is not there."""
    program = directory / "bin" / "esrally"
    if not (directory / "complete").exists():
        print(f"installing {', '.join(PACKAGES)} into {directory}", file=sys.stderr)
        venv.create(directory, with_pip=True, clear=True)
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        # An installation that was cut short is made anew.
        (directory / "complete").touch()
    return program


def configure(home, cores):
    """Writes a `rally.ini` for a home directory. With as many cores as clients, each client has a worker of its own."""
    directory = home / ".rally"
    directory.mkdir(exist_ok=True)
    (directory / "rally.ini").write_text(CONFIGURATION.replace("HOME", str(home)).replace("CORES", str(cores)))


def environment(program, home, samples=None):
    """What its processes need; `samples` names a file that gets every sample as a line of JSON."""
    found = {**os.environ, "HOME": str(home), "ORIGINAL_RACE": str(home), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    if samples:
        found |= {"PYTHONPATH": str(HOOKS), "ORIGINAL_SAMPLES": str(samples)}
    return found


def race(program, arguments, environment, prefix=()):
    """Runs a race, and waits before it for another one that runs on this machine, which Rally refuses to run beside."""
    command = [*prefix, str(program), "race", "--pipeline=benchmark-only", "--offline", *map(str, arguments)]
    log = pathlib.Path(environment["HOME"]) / ".rally" / "logs" / "rally.log"
    end = time.monotonic() + PATIENCE
    while True:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            fail(f"Rally did not end within {LIMIT} s", "", log)
        finally:
            reap(environment["HOME"])
        if not process.returncode:
            return output
        if "other Rally processes running" not in output or time.monotonic() > end:
            fail("Rally failed", output, log)
        time.sleep(2)


def fail(what, output, log):
    tail = log.read_text(errors="replace")[-8000:] if log.exists() else ""
    raise SystemExit(f"{what}:\n{output}\n{tail}")


def reap(home):
    """Ends what a race left running: its processes detach themselves, but keep their home directory."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"ORIGINAL_RACE={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ValueError):
            pass
