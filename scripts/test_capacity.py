"""Tests of `scripts/capacity` against measured figures."""

from __future__ import annotations

import importlib.util
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "capacity"
loader = SourceFileLoader("capacity", str(SCRIPT))
capacity = importlib.util.module_from_spec(importlib.util.spec_from_loader("capacity", loader))
loader.exec_module(capacity)


class Capacity(unittest.TestCase):
    """Two measured points and their consequences."""

    def setUp(self):
        self.measured = capacity.Measured(capacity.PAGE.read_text())

    def test_measured_peaks_lie_below_and_near_what_the_costs_allow(self):
        for connections in ("64", "256"):
            with self.subTest(connections):
                peak = self.measured.peaks[capacity.FLEET, connections]
                predicted = self.measured.predicted_peak(f"new pictures, {connections}")
                self.assertLessEqual(peak, predicted)
                self.assertGreaterEqual(peak, 0.8 * predicted)

    def test_a_slower_model_needs_workers_and_nothing_else(self):
        quick = capacity.cores_needed(self.measured, 1000, None, 0.0, 0.7)
        slow = capacity.cores_needed(self.measured, 1000, 10.0, 0.0, 0.7)
        self.assertAlmostEqual(slow["worker"] - quick["worker"], 1000 * (10_000 - self.measured.inference) / 1e6 / 0.7)
        self.assertEqual({name: slow[name] for name in ("gateway", "broker", "redis")}, {name: quick[name] for name in ("gateway", "broker", "redis")})

    def test_what_the_cache_answers_costs_gateways_only(self):
        cached = capacity.cores_needed(self.measured, 1000, None, 1.0, 1.0)
        self.assertEqual((cached["worker"], cached["broker"], cached["redis"]), (0, 0, 0))
        self.assertGreater(cached["gateway"], 0)


if __name__ == "__main__":
    unittest.main()
