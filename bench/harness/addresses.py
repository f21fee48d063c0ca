"""A detection over more addresses than the executors' memory holds.

Owns: the size of the memory, and what the result must be. Must not know: how a process is measured.
"""

import json

from . import cluster, figures, places, process, report, rounds
from .server import log

EXECUTORS = 2
VCORES = 2
# The memory of the tasks of each executor, in bytes.
POOL = 512 << 20


def run(context, options):
    """Measures one detection on one server and returns its section."""
    size = ["--documents", str(options.addresses), "--addresses", str(options.addresses), "--seed", str(options.seed)]
    expected = json.loads(process.run([places.tool(), "expected", *size]))
    context.index, context.documents = "bench-addresses", options.addresses
    context.server.generate(context.index, options.addresses, *size[2:], "--shape", "flat")
    context.cluster = cluster.Cluster(
        context.programs, context.server.url, EXECUTORS, VCORES, ["--memory-pool-size", str(POOL)]
    )
    try:
        result = rounds.measure(context, [figure(expected)], options.repeat)["addresses"]
        peaks = context.cluster.peaks()
    finally:
        context.cluster.stop()
        context.server.request("DELETE", f"/{context.index}")
    text = f"### {context.server.name}, {expected['addresses']:,} addresses\n"
    text += (
        f"`detect` by scan over {options.addresses:,} documents of three shards, on {EXECUTORS} executors with "
        f"{VCORES} tasks and {POOL >> 20} MiB for these each. The number of addresses, and for each direction the "
        "sum, the greatest count and the number of findings, are compared with those that the generator computes without "
        "a server.\n\n"
    )
    if result.seconds is None:
        return text + f"{result.problem}\n"
    least, greatest = result.spread
    return text + (
        f"Exact. {result.seconds:.1f} s ({least:.1f} to {greatest:.1f} s, {report.in_rounds(options.repeat)}), "
        f"{result.median('cpu'):.1f} s of CPU; peak memory: client {result.median('peak_mib'):,.0f} MiB, executors "
        f"{' and '.join(f'{peak:,.0f} MiB' for peak in peaks['executor'])}.\n"
    )


def figure(expected):
    """Returns the figure, which fails if its result is not the expected one."""

    def command(context):
        fields = ["--source-field", "src", "--destination-field", "dst"]
        every = ["--query", '{"match_all": {}}']
        return figures.detect(context, [*every, *fields], "scan", on_cluster=True)

    def answer(output):
        detection = json.loads(output[output.index("{") :])
        found = {"addresses": detection["statistics"]["outgoing"]["count"]}
        for direction in ("outgoing", "incoming"):
            statistics = detection["statistics"][direction]
            findings = [one for one in detection["findings"] if one["direction"] == direction]
            found[direction] = {
                "sum": round(statistics["mean"] * statistics["count"]),
                "max": statistics["max"],
                "findings": len(findings),
            }
        log(f"found {found}")
        if found != expected:
            raise process.Failed(f"the result is {found}, not {expected}")
        return None

    return figures.Figure("addresses", "`detect` over many addresses", command, answer, on_cluster=True)
