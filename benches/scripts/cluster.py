"""Daemons on loopback, for scripts that measure races."""
import json
import os
import socket
import subprocess


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A coordinator and members on loopback, all of which drive."""

    def __init__(self, program, home, hosts):
        self.program = program
        self.env = {"RALLY_HOME": str(home), "PATH": os.environ["PATH"]}
        self.ports = [free_port(socket.SOCK_DGRAM) for _ in range(hosts)]
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

    def command(self, track, target, drivers=None, options=()):
        """A race by a member, unless told otherwise on all hosts."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in drivers or self.ports)
        return [self.program, "race", f"--track-path={track}", f"--target-hosts=127.0.0.1:{target}",
                f"--load-driver-hosts={hosts}", f"--port={self.ports[1]}", *options]

    def stop(self):
        subprocess.run([self.program, "stop", "--all"], env=self.env, check=False, stderr=subprocess.DEVNULL)
