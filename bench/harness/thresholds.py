"""The recorded ratios, and the comparison of a run with them.

Owns: the form of thresholds.toml. Must not know: how a figure is measured.
"""

import tomllib

from . import places

# A ratio may be this much worse than recorded.
TOLERANCE = 0.20
# The figures of bench/run --check, with their bounds.
CHECKED = ["bound-two", "bound-aggregate", "count", "detect-query", "detect-query-aggregate"]
HEAD = """\
# Written by bench/run --record. The ratios of the last recorded run: the least time of a figure divided by that of its
# bound, for each server. bench/run --check fails if a ratio is worse by more than 20%.
# A ratio in [targets] is what a figure should reach; the report compares. Edit that table by hand.
"""


def read():
    """Returns the tables of the file; none if there is no file."""
    if not places.THRESHOLDS.exists():
        return {}
    return tomllib.loads(places.THRESHOLDS.read_text())


def target(name):
    """Returns the target of a figure's ratio, or None."""
    return read().get("targets", {}).get(name)


def record(server, ratios):
    """Writes the ratios of a server, and keeps those of figures and servers that were not measured."""
    tables = read()
    tables.setdefault("targets", {})
    kept = tables.setdefault(server, {})
    kept.update({name: round(value, 2) for name, value in ratios.items() if value is not None})
    blocks = [HEAD]
    for name in ["targets", *sorted(set(tables) - {"targets"})]:
        lines = [f"{key} = {value}" for key, value in sorted(tables[name].items())]
        blocks.append("\n".join([f"[{name}]" if name == "targets" else f'["{name}"]', *lines]) + "\n")
    places.THRESHOLDS.write_text("\n".join(blocks))


def worse(server, ratios):
    """Returns a line for each ratio that is worse than recorded by more than the tolerance."""
    recorded = read().get(server, {})
    lines = []
    for name, value in ratios.items():
        if value is None or name not in recorded:
            continue
        if value > recorded[name] * (1 + TOLERANCE):
            lines.append(f"{server}: {name} takes {value:.2f} times its bound, recorded was {recorded[name]:.2f}")
    return lines


def checked(server, ratios):
    """Returns how many ratios of a server could be compared."""
    recorded = read().get(server, {})
    return sum(value is not None and name in recorded for name, value in ratios.items())
