"""The machine and the versions of a run.

Owns: what identifies where a figure was measured. Must not know: figures.
"""

import datetime
import os
import platform
import subprocess

from . import places, server


def describe(programs):
    """Returns pairs of a name and a value for the head of the report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("date", datetime.date.today().isoformat()),
        ("processor", f"{processor()}, {os.cpu_count()} cores, shared by client and server"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("flowsigma", f"{line(programs.flowsigma, '--version')}, {revision(programs)}, {profile(programs)}"),
        ("heap of each server", server.HEAP),
    ]


def processor():
    with open("/proc/cpuinfo") as info:
        for text in info:
            if text.startswith("model name"):
                return text.split(":", 1)[1].strip()
    return platform.machine()


def line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.strip() or "unknown").splitlines()[0]


def revision(programs):
    """Returns the revision of this checkout, unless the programs were built elsewhere.

    It is dirty if anything was changed but the files that bench/run writes.
    """
    if not programs.flowsigma.is_relative_to(places.TARGET):
        return "of another checkout"
    git = ["git", "-C", places.ROOT]
    written = [f":(exclude,top){path.relative_to(places.ROOT)}" for path in (places.REPORT, places.THRESHOLDS)]
    dirty = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *written], check=False).returncode == 1
    return "revision " + line(*git, "rev-parse", "--short", "HEAD") + ("-dirty" if dirty else "")


def profile(programs):
    """Returns the build profile, from the folder of the program."""
    folder = programs.flowsigma.resolve().parent.name
    return f"{folder} build" if folder in ("debug", "release") else "unknown build"
