"""Running a program and measuring it.

Owns: time, CPU time, memory and output of one process. Must not know: what the program does.
"""

import os
import subprocess
import threading
import time
from dataclasses import dataclass

from . import places


class NotRun(Exception):
    """A figure cannot be measured here. The message says why."""


class Failed(Exception):
    """A figure failed, or its answer is wrong. The message says how."""


@dataclass(frozen=True)
class Sample:
    """One measured process. `seconds` is the time from its start to its end."""

    seconds: float
    cpu: float
    peak_mib: float
    output: str


def measure(arguments, limit, **variables):
    """Runs a program to its end and returns a Sample.

    CPU time includes that of children which the program has waited for. The peak is that of the largest process, and at
    least that of this process, whose memory the program has until it starts.

    Raises Failed if it exits with another code than 0, or if it runs for more than `limit` seconds.
    """
    places.WORK.mkdir(parents=True, exist_ok=True)
    out, err = places.WORK / "figure.out", places.WORK / "figure.err"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        begin = time.monotonic()
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=places.environment(**variables),
            cwd=places.WORK,
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
        seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        reason = f"killed after {limit} s" if seconds >= limit else f"exit code {process.returncode}"
        raise Failed(f"{reason}: {last_line(err)}")
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read_text(errors="replace"))


def last_line(path):
    """Returns the last line of a file that is not empty, at most 300 characters."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no output"])[-1][:300]


def run(arguments, **more):
    """Runs a program that is not measured, such as a build. Raises NotRun with the end of its output if it fails."""
    done = subprocess.run(
        [str(argument) for argument in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise NotRun(f"{os.path.basename(str(arguments[0]))} failed: {(lines or ['no output'])[-1][:300]}")
    return done.stdout
