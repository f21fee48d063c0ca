"""Tests of what the harness computes: `python3 -m unittest discover -s bench -p tests.py`.

They start no server and no program of Flowsigma.
"""

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from harness import figures, places, process, report, rounds, thresholds

COUNT = figures.Figure("count", "a count", lambda context: ["true"], figures.counts, "documents", "bound-two")


def result(*times):
    return rounds.Result("a title", [process.Sample(seconds, 1.0, 50.0, "") for seconds in times])


class Rounds(unittest.TestCase):
    def test_a_ratio_compares_medians(self):
        results = {"count": result(3.0, 9.0, 2.0), "bound-two": result(1.0, 2.0, 8.0)}
        self.assertEqual(rounds.ratio(results, COUNT), 1.5)
        self.assertEqual(rounds.ratio(results, COUNT, "least"), 2.0)
        self.assertIsNone(rounds.ratio({"count": result(3.0)}, COUNT))
        self.assertIsNone(rounds.ratio({"count": result(3.0), "bound-two": result()}, COUNT))

    def test_a_figure_with_another_answer_fails(self):
        answers = {}
        sample = process.Sample(1.0, 1.0, 1.0, '[{"a":5,"b":5}]')
        rounds.compare(COUNT, sample, answers)
        rounds.compare(COUNT, sample, answers)
        with self.assertRaisesRegex(process.Failed, "differs from that of count: 4, not 5"):
            rounds.compare(COUNT, process.Sample(1.0, 1.0, 1.0, '[{"a":4,"b":4}]'), answers)

    def test_findings_are_compared_in_any_order(self):
        rows = [{"address": a, "direction": "outgoing", "outgoing": 9, "incoming": 0, "z": 1.5} for a in "ab"]
        one, other = json.dumps({"findings": rows}), json.dumps({"findings": rows[::-1]})
        self.assertEqual(figures.findings(one), figures.findings("a warning\n" + other))
        with self.assertRaises(process.Failed):
            figures.golden_findings(one)


class Process(unittest.TestCase):
    def test_a_process_is_measured(self):
        sample = process.measure(["sh", "-c", "echo output"], 60)
        self.assertEqual(sample.output, "output\n")
        self.assertGreater(sample.seconds, 0)
        self.assertGreater(sample.peak_mib, 0)

    def test_a_failure_names_the_error(self):
        with self.assertRaisesRegex(process.Failed, "exit code 3: error: no such index"):
            process.measure(["sh", "-c", "echo error: no such index >&2; echo more >&2; exit 3"], 60)


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "file"

    def test_a_ratio_is_worse_by_more_than_a_fifth(self):
        with mock.patch.object(places, "THRESHOLDS", self.file):
            self.file.write_text("[targets]\ncount = 1.3\n")
            thresholds.record("opensearch-2.19.1", {"count": 1.5, "engine": None})
            thresholds.record("elasticsearch-8.8.2", {"count": 2.0})
            self.assertEqual(thresholds.target("count"), 1.3)
            self.assertEqual(thresholds.worse("opensearch-2.19.1", {"count": 1.79, "other": 9.0, "engine": 5.0}), [])
            (line,) = thresholds.worse("opensearch-2.19.1", {"count": 1.81})
            self.assertIn("1.81 times its bound, recorded was 1.50", line)
            self.assertEqual(thresholds.checked("opensearch-2.19.1", {"count": 1.0, "other": 1.0}), 1)
            self.assertEqual(thresholds.checked("another", {"count": 1.0}), 0)

    def test_a_report_keeps_the_sections_of_other_runs(self):
        with mock.patch.object(places, "REPORT", self.file):
            report.write("latency", "## A far server\nold")
            report.write("figures", "## Machine\nunique")
            report.write("latency", "## A far server\nnew")
            text = self.file.read_text()
        self.assertEqual(text.count("## A far server"), 1)
        self.assertNotIn("old", text)
        self.assertLess(text.index("unique"), text.index("new"))


if __name__ == "__main__":
    unittest.main()
