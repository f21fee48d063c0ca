"""The folders and programs that a run uses.

Owns: paths. Must not know: what is measured.
"""

import os
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
TARGET = ROOT / "target"
# What the run builds and installs: the tool, peers, Python environments, output of figures.
WORK = TARGET / "bench"
REPORT = ROOT / "docs" / "benchmarks.md"
THRESHOLDS = BENCH / "thresholds.toml"


@dataclass(frozen=True)
class Programs:
    """The programs of Flowsigma. The scheduler and the executor are beside `flowsigma`."""

    flowsigma: Path

    @property
    def scheduler(self):
        return self.flowsigma.with_name("flowsigma-scheduler")

    @property
    def executor(self):
        return self.flowsigma.with_name("flowsigma-executor")

    @property
    def engine(self):
        return self.flowsigma.with_name("flowsigma-bench-engine")


def tool():
    """Returns the path of flowsigma-bench."""
    return WORK / "tool" / "release" / "flowsigma-bench"


def environment(**more):
    """Returns the environment of a figure: without a configuration file of the caller."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLOWSIGMA_")}
    return {**kept, "NO_COLOR": "1", **more}
