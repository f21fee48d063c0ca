"""Documents a second from a far server, on one or more executors with one or more slices.

Owns: the delay proxy and the table. Must not know: how a process is measured.
"""

import subprocess

from . import cluster, figures, places, process, report, rounds

EXECUTORS = [1, 2, 4]
SLICES = [1, 2, 4, 8, 16]
# What the tables say, which holds for any numbers in them.
MEANING = """\
A slice waits for one page at a time, so it gets the same number of documents a second on any number of executors. Slices
are what scales, up to the tasks of all executors and the speed of the server. An index of 100 shards has 100 slices:
executors with 100 tasks together, such as 25 of four tasks, read all of them at once.

What a ratio lacks is the start of a job, and the work of a server that shares its cores with the executors. The start
weighs less the more pages a slice has.
"""
# The tasks that each executor runs at once.
VCORES = 4


class Delay:
    """The proxy that delays each page."""

    def __init__(self, url, millis):
        self.process = subprocess.Popen(
            [places.tool(), "delay", "--to", url, "--millis", str(millis)], stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            self.stop()
            raise process.NotRun("the delay proxy did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def run(context, options):
    """Measures the table on one server and returns its section."""
    # One shard, so that the number of slices is free.
    context.index, context.documents = "bench-latency", options.documents
    context.server.generate(context.index, options.documents, "--shards", "1")
    delay = Delay(context.server.url, options.millis)
    rows, most_slices = [], []
    try:
        for executors in EXECUTORS:
            context.cluster = cluster.Cluster(context.programs, delay.url, executors, VCORES)
            try:
                chosen = [figure(slices) for slices in SLICES]
                # The first job of a cluster opens connections and allocates memory.
                rounds.run(context, chosen[0])
                results = rounds.measure(context, chosen, options.repeat)
            finally:
                context.cluster.stop()
            rows.append([executors, *[cell(context, results[one.name]) for one in chosen]])
            most_slices.append(results[chosen[-1].name].seconds)
    finally:
        delay.stop()
    text = (
        f"### {context.server.name}, {options.millis} ms before each page\n"
        f"Documents a second of `SELECT count(a), count(b)` by scan over {context.documents:,} documents of one shard, "
        f"on executors of {VCORES} tasks each. {report.in_rounds(options.repeat)}.\n\n"
    )
    return (
        text
        + report.table(["executors", *[f"{slices} slice{'' if slices == 1 else 's'}" for slices in SLICES]], rows)
        + "\n"
        + ratio(most_slices)
    )


def figure(slices):
    """Returns the figure with this number of slices."""

    def command(context):
        statement = (
            f"SELECT count({figures.quoted(figures.SOURCE)}) AS a, count({figures.quoted(figures.DESTINATION)}) AS b "
            "FROM flows"
        )
        options = {**figures.by(context, "scan"), "slices": str(slices)}
        return figures.sql(context, statement, options, on_cluster=True)

    return figures.Figure(f"slices-{slices}", f"{slices} slices", command, figures.counts, "documents", on_cluster=True)


def ratio(seconds):
    """Returns a sentence about the most executors against the fewest, which read the most slices in these seconds."""
    if None in (seconds[0], seconds[-1]):
        return ""
    return (
        f"\nWith {SLICES[-1]} slices, {EXECUTORS[-1]} executors read {seconds[0] / seconds[-1]:.2f} times as many documents "
        f"a second as {EXECUTORS[0]}.\n"
    )


def cell(context, result: rounds.Result):
    return result.problem if result.seconds is None else f"{context.documents / result.seconds:,.0f}"
