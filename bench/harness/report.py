"""The report docs/benchmarks.md.

Owns: its text. Must not know: how anything was measured.

Each run replaces the sections of what it measured. The sections of the other kinds of runs are kept.
"""

import re

from . import places, rounds, thresholds

HEAD = """\
# Benchmarks

`bench/run` writes this page: [bench/README.md](../bench/README.md). Each round runs every figure once. A figure is the
median of the rounds, with the least and the greatest time. Compare ratios of one table: times move by 20% between runs.
"""
SECTIONS = ["figures", "scale", "latency", "addresses"]


def write(kind, text):
    """Writes the section of a kind of run, with markers around it."""
    sections = existing()
    sections[kind] = text.strip() + "\n"
    blocks = [HEAD]
    for name in SECTIONS:
        if name in sections:
            blocks.append(f"<!-- begin {name} -->\n{sections[name]}<!-- end {name} -->\n")
    places.REPORT.write_text("\n".join(blocks))


def existing():
    """Returns the sections of the page, by their kind."""
    if not places.REPORT.exists():
        return {}
    found = re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->", places.REPORT.read_text(), re.DOTALL)
    return dict(found)


def table(head, rows):
    """Returns a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def facts(machine):
    """Returns the table of the machine and the versions."""
    return table(["what", "value"], machine)


def in_rounds(repeat):
    """Returns the number of rounds in words."""
    return "1 round" if repeat == 1 else f"{repeat} rounds"


def number(value, form):
    return "" if value is None else format(value, form)


def figures(context, all_figures, results, repeat):
    """Returns the section of one server."""
    rows, problems = [], []
    known = {figure.name: figure for figure in all_figures}
    for name, result in results.items():
        figure = known.get(name)
        if result.problem is not None:
            problems.append(f"- {result.title}: {result.problem}")
        if result.seconds is None:
            continue
        rows.append(row(context, figure, name, result, results))
    head = [
        "figure",
        "seconds",
        "least to greatest",
        "documents a second",
        "CPU seconds",
        "peak MiB",
        "bound",
        "ratio",
        "target",
    ]
    text = f"## {context.server.name}\n{context.documents:,} documents, three shards, {in_rounds(repeat)}.\n\n"
    text += table(head, rows) + "\n"
    if problems:
        text += "\nWithout a figure:\n" + "\n".join(problems) + "\n"
    return text


def row(context, figure, name, result, results):
    least, greatest = result.spread
    counts = figure is None or figure.counts
    # A part of a figure shares its process, so it has no CPU time and memory of its own.
    own = figure is not None
    ratio = rounds.ratio(results, figure) if own else None
    return [
        result.title,
        f"{result.seconds:.2f}",
        f"{least:.2f} to {greatest:.2f}",
        f"{context.documents / result.seconds:,.0f}" if counts else "",
        number(result.median("cpu") if own else None, ".2f"),
        number(result.median("peak_mib") if own else None, ".0f"),
        results[figure.bound].title if ratio is not None else "",
        number(ratio, ".2f"),
        number(thresholds.target(name), ".2f"),
    ]
