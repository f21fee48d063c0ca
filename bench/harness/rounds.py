"""Measuring figures in rounds: each round runs every figure once, so that a slow minute hits all of them.

Owns: the order of the runs, the comparison of answers, medians and ratios. Must not know: commands, or the report.
"""

import statistics
from dataclasses import dataclass, field, replace

from . import process
from .server import log

# The longest time of one figure, in seconds.
LIMIT = 1_800


@dataclass
class Result:
    """What was measured of a figure: its samples, or why there are none."""

    title: str
    samples: list = field(default_factory=list)
    problem: str | None = None

    def median(self, name):
        """Returns the median of a number of the samples, or None without samples."""
        return statistics.median(getattr(sample, name) for sample in self.samples) if self.samples else None

    @property
    def seconds(self):
        return self.median("seconds")

    @property
    def least(self):
        """Returns the least time, or None without samples. Other load on the machine moves it less than the median."""
        return min(sample.seconds for sample in self.samples) if self.samples else None

    @property
    def spread(self):
        """Returns the least and the greatest time, in seconds."""
        times = [sample.seconds for sample in self.samples]
        return (min(times), max(times)) if times else None


# The parts of a figure have titles of their own.
PART_TITLES = {
    "bound-terms": "one `terms` request for each slice, both fields",
    "bound-composite": "two composite aggregations at once",
}


def measure(context, figures, repeat):
    """Returns a Result for each figure, by its name."""
    results = {figure.name: Result(figure.title) for figure in figures}
    answers = {}
    for number in range(1, repeat + 1):
        for figure in figures:
            result = results[figure.name]
            if result.problem is not None:
                continue
            try:
                sample = run(context, figure)
                compare(figure, sample, answers)
            except process.NotRun as reason:
                result.problem = f"not run: {reason}"
            except (process.Failed, ValueError, KeyError, TypeError) as error:
                result.problem = f"failed: {error}"
                result.samples.clear()
            else:
                result.samples.append(sample)
                for name, seconds in (figure.parts(sample.output) if figure.parts else {}).items():
                    part = results.setdefault(name, Result(PART_TITLES[name]))
                    part.samples.append(process.Sample(seconds, 0.0, 0.0, ""))
            log(f"{context.server.name}: round {number}/{repeat}: {figure.name}: {describe(result)}")
    return results


def run(context, figure):
    """Runs a figure once and returns its Sample."""
    if not figure.on_cluster:
        return process.measure(figure.command(context), LIMIT)
    if isinstance(context.cluster, process.NotRun):
        raise context.cluster
    before = context.cluster.cpu()
    sample = process.measure(figure.command(context), LIMIT)
    return replace(sample, cpu=sample.cpu + context.cluster.cpu() - before)


def warm_up(context, figures):
    """Runs the bounds once, so that the first round does not measure a server that has just started."""
    for figure in figures:
        if figure.name.startswith("bound-"):
            log(f"{context.server.name}: warming up: {figure.name}")
            try:
                run(context, figure)
            except process.Failed as error:
                # The rounds report it.
                log(f"{context.server.name}: {figure.name} failed: {error}")


def compare(figure, sample, answers):
    """Fails if the answer differs from that of another figure with the same question."""
    value = figure.answer(sample.output)
    if figure.same is None or value is None:
        return
    first, expected = answers.setdefault(figure.same, (figure.name, value))
    if value != expected:
        raise process.Failed(f"the answer differs from that of {first}: {shorten(value)}, not {shorten(expected)}")


def shorten(value):
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def describe(result):
    if result.problem is not None:
        return result.problem
    last = result.samples[-1]
    return f"{last.seconds:.2f} s, {last.cpu:.2f} s of CPU, {last.peak_mib:.0f} MiB"


def ratio(results, figure, of="seconds"):
    """Returns how many times as long as its bound a figure takes, or None.

    `of` is `seconds` for the medians of the same rounds, or `least` for the least times.
    """
    own, bound = (getattr(results.get(name), of, None) for name in (figure.name, figure.bound))
    return own / bound if own and bound else None
