"""Checks that docs/OPERATIONS.md names every setting, metric and alert, and that the tests it names exist."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "OPERATIONS.md").read_text()
SETTINGS = ["core/src/program/config/mod.rs", "core/src/program/logging.rs", "core/src/program/trace/mod.rs", "gateway/src/program/config.rs", "worker/src/config.rs"]
METRICS = ["gateway/src/service/metrics.rs", "worker/src/metrics.rs", "core/src/queue/rabbit/counters.rs", "core/src/program/trace/counted.rs"]


def found(files: list[str], pattern: str) -> set[str]:
    """The matches of the pattern's first group in these files."""
    return {name for file in files for name in re.findall(pattern, (PROJECT / file).read_text())}


class OperationsPage(unittest.TestCase):
    """The page against the code."""

    def test_every_setting_is_there(self):
        settings = found(SETTINGS, r'env = "([A-Z_]+)"')
        self.assertGreater(len(settings), 20)
        self.assertEqual([name for name in sorted(settings) if f"`{name}`" not in PAGE], [])

    def test_every_metric_is_there(self):
        metrics = found(METRICS, r'(?:Counter|Gauge|Histogram)(?:Vec)? = "([a-z_]+)"')
        metrics |= found(METRICS, r'counter\(\s*"([a-z_]+)"')
        self.assertGreater(len(metrics), 30)
        self.assertEqual([name for name in sorted(metrics) if name not in PAGE], [])

    def test_every_alert_is_there(self):
        alerts = found(["deploy/prometheus/alerts.yml"], r"alert: (\w+)")
        self.assertGreater(len(alerts), 10)
        self.assertEqual([name for name in sorted(alerts) if f"`{name}`" not in PAGE], [])

    def test_the_tests_it_names_exist(self):
        table = PAGE.split("## A component is down")[1]
        tests = "".join(path.read_text() for path in (PROJECT / "tests" / "faults").glob("*.rs"))
        scenarios = "".join(path.read_text() for path in (PROJECT / "tests" / "scenarios").glob("*.rs"))
        rows = [row.split("|")[-2] for row in table.splitlines() if row.startswith("| ")][1:]
        self.assertGreater(len(rows), 10)
        for name in re.findall(r"`([\w:*-]+)`", "".join(rows)):
            with self.subTest(name):
                self.assertIn(name.split("::")[-1].rstrip("*"), scenarios if "::" in name else tests)

    def test_dashboards_and_rules_show_what_is_measured(self):
        shown = found(["deploy/prometheus/alerts.yml", "deploy/grafana/dashboards/selvage.json"], r"selvage_(?:gateway|worker|queue)_([a-z_]+)")
        for name in shown:
            with self.subTest(name):
                self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name), PAGE)


if __name__ == "__main__":
    unittest.main()
