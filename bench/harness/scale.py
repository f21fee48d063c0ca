"""How time grows with documents and with indices.

Owns: the sizes, and the tables. Must not know: how a process is measured.
"""

from . import figures, process, report, rounds
from .server import log

DOCUMENTS = [250_000, 500_000, 1_000_000, 2_000_000, 4_000_000]
INDICES = [10, 30, 100, 300, 1_000]
# The documents of each index of a table of many indices.
EACH = 200
NAMES = ["bound-two", "count", "detect-query", "detect-query-aggregate"]


def run(context, options):
    """Measures both tables on one server and returns their section."""
    chosen = [figure for figure in figures.FIGURES if figure.name in NAMES]
    sizes = [size for size in DOCUMENTS if size <= options.most_documents]
    text = f"### {context.server.name}, by documents\n"
    text += f"Microseconds per document, three shards, {report.in_rounds(options.repeat)}.\n\n"
    rows, peaks = [], []
    for size in sizes:
        context.index, context.documents = "bench-scale", size
        context.server.generate(context.index, size)
        results = rounds.measure(context, chosen, options.repeat)
        rows.append([f"{size:,}", *[cell(results[name], 1e6 / size) for name in NAMES]])
        peaks.append([f"{size:,}", *[peak(results[name]) for name in NAMES]])
        context.server.request("DELETE", "/bench-scale")
    text += report.table(["documents", *titles(chosen)], rows) + "\n" + problems(results)
    text += "\nPeak memory of the process, in MiB.\n\n" + report.table(["documents", *titles(chosen)], peaks) + "\n"
    # Servers allow 1,000 shards on each node by default.
    context.server.request("PUT", "/_cluster/settings", {"persistent": {"cluster.max_shards_per_node": 5_000}})
    text += f"\n### {context.server.name}, by indices\nMilliseconds per index of one shard and {EACH} documents.\n\n"
    rows = []
    for indices in [number for number in INDICES if number <= options.most_indices]:
        context.index, context.documents = "bench-many-*", indices * EACH
        log(f"{context.server.name}: creating {indices} indices")
        context.server.generate("bench-many", context.documents, "--indices", str(indices))
        results = rounds.measure(context, chosen, options.repeat)
        rows.append([f"{indices:,}", *[cell(results[name], 1e3 / indices) for name in NAMES]])
        delete(context.server, indices)
    return text + report.table(["indices", *titles(chosen)], rows) + "\n" + problems(results)


def titles(chosen):
    """Returns the titles in the order of NAMES."""
    by_name = {figure.name: figure.title for figure in chosen}
    return [by_name[name] for name in NAMES]


def cell(result, factor):
    """Returns the median time multiplied by a factor, or nothing without one."""
    return "" if result.seconds is None else f"{result.seconds * factor:.2f}"


def peak(result):
    """Returns the median of the peak memory, or nothing without one."""
    median = result.median("peak_mib")
    return "" if median is None else f"{median:.0f}"


def problems(results):
    """Returns the figures of the last row that have no time, with the reasons."""
    lines = [f"- {result.title}: {result.problem}" for result in results.values() if result.problem is not None]
    return "\nWithout a figure in the last row:\n" + "\n".join(lines) + "\n" if lines else ""


def delete(server, indices):
    """Deletes the indices a hundred at a time: servers may refuse patterns."""
    for begin in range(0, indices, 100):
        names = [f"bench-many-{place:05}" for place in range(begin, min(begin + 100, indices))]
        try:
            server.request("DELETE", "/" + ",".join(names))
        except process.Failed as error:
            log(f"the indices could not be deleted: {error}")
