"""A cluster of a scheduler and executors on this machine.

Owns: the processes, their ports and their configuration. Must not know: what is submitted.
"""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import places, process

# How long the members may take to register, in seconds.
START = 60


def free_ports(count):
    """Returns ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """A scheduler with executors, all of which have the connection `bench`."""

    def __init__(self, programs, server_url, executors, vcores=2, executor_options=()):
        for program in (programs.scheduler, programs.executor):
            if not program.exists():
                raise process.NotRun(f"no {program.name} beside {programs.flowsigma.name}")
        self.folder = Path(tempfile.mkdtemp(prefix="flowsigma-bench-"))
        self.config = self.folder / "flowsigma.toml"
        self.config.write_text(f'[connections.bench]\nnodes = ["{server_url}"]\n')
        self.members = []
        try:
            self._start(programs, executors, vcores, executor_options)
        except BaseException:
            self.stop()
            raise

    def _start(self, programs, executors, vcores, executor_options):
        (port,) = free_ports(1)
        self.url = f"http://localhost:{port}"
        here = ["--bind-host", "127.0.0.1", "--external-host", "localhost"]
        self._spawn(
            "scheduler", programs.scheduler, *here, "--bind-port", port, "--min-ready-executors", str(executors)
        )
        self._wait("healthz")
        for number in range(executors):
            flight, grpc, health = free_ports(3)
            self._spawn(
                f"executor-{number}",
                programs.executor,
                *here,
                "--scheduler-port",
                port,
                "--bind-port",
                flight,
                "--bind-grpc-port",
                grpc,
                "--bind-health-port",
                health,
                "--vcores",
                str(vcores),
                *executor_options,
            )
        self._wait("readyz")

    def _spawn(self, name, program, *arguments):
        work = self.folder / name
        work.mkdir()
        with open(self.folder / f"{name}.log", "wb") as log:
            self.members.append(
                subprocess.Popen(
                    [program, "--config", self.config, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=places.environment(TMPDIR=str(work)),
                )
            )

    def _wait(self, probe):
        # The certificate of a cluster of one account is its own: this only asks whether it is there.
        context = ssl._create_unverified_context()
        end = time.monotonic() + START
        while time.monotonic() < end:
            for scheme in ("http", "https"):
                url = self.url.replace("http:", f"{scheme}:") + f"/{probe}"
                handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
                try:
                    with urllib.request.build_opener(*handlers).open(url, timeout=5):
                        return
                except (OSError, urllib.error.URLError):
                    pass
            if any(member.poll() is not None for member in self.members):
                break
            time.sleep(0.2)
        logs = [process.last_line(log) for log in sorted(self.folder.glob("*.log"))]
        raise process.NotRun(f"the cluster did not start: {'; '.join(logs)}")

    def cpu(self):
        """Returns the CPU seconds of all members until now."""
        ticks = 0
        for member in self.members:
            fields = Path(f"/proc/{member.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peaks(self):
        """Returns the greatest memory of each member until now in MiB, by the kind of the member."""
        peaks = {"scheduler": [], "executor": []}
        for place, member in enumerate(self.members):
            status = Path(f"/proc/{member.pid}/status").read_text()
            kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
            peaks["executor" if place else "scheduler"].append(kib / 1024)
        return peaks

    def stop(self):
        """Ends all processes and deletes their files."""
        for member in self.members:
            member.terminate()
        for member in self.members:
            try:
                member.wait(30)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
