"""Programs that a run builds.

Owns: when and where they are built. Must not know: what they measure.
"""

import os

from . import places, process
from .server import log

# Those that compile another DataFusion, which takes minutes. They are built only if bench/run --build names them.
ON_DEMAND = ["datafusion-opensearch"]


def build_tool():
    """Builds flowsigma-bench, which takes no time if it is current."""
    log("building flowsigma-bench")
    cargo(places.BENCH, places.WORK / "tool")


def build_flowsigma():
    """Builds the programs of Flowsigma for release. An older program would be measured as this revision."""
    log("building flowsigma; the first time takes about fifteen minutes on two cores")
    # The whole workspace: with -p, Cargo chooses other features and builds DataFusion a second time.
    process.run(["cargo", "build", "--release", "--workspace", "--quiet"], cwd=places.ROOT)


def cargo(folder, target):
    """Builds the crate of a folder with its own lock file."""
    variables = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    process.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, env=variables)


def once(context, name, build):
    """Returns what `build` returns, and calls it once in a run. Raises its NotRun again on later calls."""
    if name not in context.built:
        try:
            context.built[name] = build()
        except process.NotRun as reason:
            context.built[name] = reason
    if isinstance(context.built[name], Exception):
        raise context.built[name]
    return context.built[name]


def program(context, name, folder):
    """Returns the program of a crate that compiles DataFusion.

    Raises NotRun if it was not built before, and --build does not name it.
    """
    target = places.WORK / name
    path = target / "release" / f"flowsigma-bench-{name}"

    def build():
        if name in context.options.build:
            log(f"building {name}, which compiles DataFusion")
            cargo(folder, target)
        if not path.exists():
            raise process.NotRun(f"not built; bench/run --build {name} builds it")
        return path

    return once(context, name, build)
