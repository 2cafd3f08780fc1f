"""Tests of the benchmark's own arithmetic and housekeeping; nothing of Selvage runs here.

    python3 -m unittest discover --start-directory bench
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import xml.etree.ElementTree as xml
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent / "scripts")]

import resnet50
from harness import measure, plot, procs, summary, table
from harness.plan import loads
from harness.procs import Problem, Program
from harness.systems import FastApi, Setup


def report(rate: float, p50: float = 1.0, p99: float = 2.0, foreign: float = 0.0, **cpu: float) -> dict:
    """A load's report with these figures."""
    latency = {"p50": p50, "p95": p99, "p99": p99}
    return {"requests_per_second": rate, "latency_ms": latency, "cpu_us_per_request": cpu, "foreign_cores": foreign, "body_bytes": 600}


def point(system: str, kind: str, connections: int, measured: dict, rate: float | None = None) -> dict:
    """A measured point."""
    return {"system": system, "kind": kind, "connections": connections, "rate": rate, "follow": 0, "report": measured}


RAW = [{"threads": 2, "runs": [{"batch": 16, "images_per_second": 5000.0, "us_per_image": 400.0}]},
       {"threads": 1, "runs": [{"batch": 1, "images_per_second": 2500.0, "us_per_image": 400.0}]}]


class Summary(unittest.TestCase):
    def test_rounds_become_medians_and_ranges(self):
        rounds = [(300.0, 0.1), (100.0, 0.9), (200.0, 0.2)]
        points = [point("fleet", "unique", 64, report(rate, foreign=foreign)) for rate, foreign in rounds]
        (row,) = summary.rows(points)
        self.assertEqual((row.requests_per_second, row.lowest, row.highest), (200.0, 100.0, 300.0))
        self.assertEqual(row.foreign_cores, 0.9)

    def test_loads_at_a_rate_are_rows_of_their_own(self):
        points = [
            point("fleet", "unique", 64, report(100.0)),
            point("fleet", "unique", 64, report(70.0), rate=70.0),
        ]
        self.assertEqual([row.at_rate for row in summary.rows(points)], [False, True])

    def test_targets_compare_what_was_measured_and_leave_out_the_rest(self):
        points = [
            point("embedded", "unique", 64, report(4500.0)),
            point("embedded", "unique", 1, report(1500.0, p50=0.6)),
            point("fleet", "unique", 64, report(3000.0)),
        ]
        met = {target.what: (round(target.value, 3), target.is_met) for target in summary.targets(summary.rows(points), summary.limits(RAW))}
        self.assertEqual(met["embedded / raw ONNX Runtime, unique, 64 connections"], (0.9, True))
        self.assertEqual(met["fleet / embedded, unique, 64 connections"], (0.667, False))
        self.assertEqual(met["embedded: p50 at one connection above the bare inference, ms"], (0.2, True))
        self.assertEqual(len(met), 3)


class Pages(unittest.TestCase):
    def setUp(self):
        points = [
            point("embedded", "unique", 64, report(4500.0, gateway=400.0, client=20.0)),
            point("constant", "repeated", 64, report(60000.0, server=10.0, client=10.0)),
        ]
        self.rows, self.limits = summary.rows(points), summary.limits(RAW)

    def test_every_line_of_a_table_has_as_many_cells_as_its_header(self):
        text = table.document(self.rows, self.limits, summary.targets(self.rows, self.limits), ["a fact"])
        cells = None
        for line in text.splitlines():
            if not line.startswith("|"):
                cells = None
                continue
            cells = cells or line.count("|")
            self.assertEqual(line.count("|"), cells, line)
        self.assertIn("4,500", text)

    def test_only_what_is_between_the_markers_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "PAGE.md"
            self.assertFalse(table.write_into(page, "new"))
            page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
            self.assertTrue(table.write_into(page, "new"))
            self.assertEqual(page.read_text(), f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n")

    def test_the_plot_is_well_formed_and_has_a_bar_for_each_system(self):
        drawing = xml.fromstring(plot.svg(self.rows, self.limits))
        self.assertEqual(len(drawing.findall("{http://www.w3.org/2000/svg}rect")), 3)


class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start(self, code: str) -> Program:
        program = Program("test", [sys.executable, "-c", code], self.folder / "log", dict(os.environ), self.folder)
        self.addCleanup(program.stop)
        return program

    def test_stopping_a_program_ends_its_children_too(self):
        program = self.start("import subprocess, time; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); time.sleep(600)")
        program.wait_for(lambda: len(program.tree()) == 2, "its child is there", 30)
        child = program.tree()[1]
        program.stop()
        state = Path(f"/proc/{child}/stat")
        # The kill has been sent; a zombie is left only until its new parent collects it.
        program_is_over = lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
        deadline = time.monotonic() + 30
        while not program_is_over() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertTrue(program_is_over())

    def test_a_program_that_ends_too_early_is_a_problem_that_quotes_it(self):
        program = self.start("print('no such model'); raise SystemExit(64)")
        with self.assertRaisesRegex(Problem, "(?s)status 64.*no such model"):
            program.wait_for(lambda: False, "it is ready", 30)

    def test_a_listener_is_found_by_its_port(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.assertEqual(procs.listening_on(listener.getsockname()[1]), os.getpid())
        with self.assertRaises(Problem):
            procs.listening_on(procs.free_port())

    def test_a_listener_is_found_while_its_process_closes_other_files(self):
        at_work = threading.Event()
        self.addCleanup(at_work.set)

        def open_and_close() -> None:
            while not at_work.is_set():
                with open(os.devnull):
                    pass

        threads = [threading.Thread(target=open_and_close, daemon=True) for _ in range(4)]
        # The listener comes last in the list of open files.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            os.dup2(listener.fileno(), 200)
            self.addCleanup(os.close, 200)
            port = listener.getsockname()[1]
        for thread in threads:
            thread.start()
        for _ in range(50):
            self.assertEqual(procs.listening_on(port), os.getpid())

    def test_the_callers_settings_do_not_reach_a_system(self):
        os.environ["SELVAGE_SURPRISE"] = "1"
        self.addCleanup(os.environ.pop, "SELVAGE_SURPRISE")
        setup = Setup(self.folder, self.folder, self.folder, self.folder, "model", 2)
        system = FastApi(setup, "test")
        self.addCleanup(system.stack.close)
        program = system.run("server", [sys.executable, "-c", "import os; print(sorted(os.environ), flush=True); input()"], OWN="1")
        program.wait_for(lambda: "]" in program.output() or program.process.poll() is not None, "it has printed", 30)
        self.assertIn("'OWN'", program.output())
        self.assertNotIn("SELVAGE_SURPRISE", program.output())


class Measured(unittest.TestCase):
    def load(self, kind: str, errors: dict) -> dict:
        """Measures this kind of load with a client that reports these errors."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        printed = report(100.0) | {"errors": errors}
        client = unittest.mock.patch.object(measure, "call", return_value=json.dumps([printed]))
        self.command = self.enterContext(client)
        setup = Setup(folder, folder, folder, folder, "model", 2, images=folder)
        return measure.load(setup, FastApi(setup, "test"), measure.Point(kind, 64), measure.Length(0, 1), folder / "answers.json")

    def test_a_wrong_answer_ends_the_run(self):
        wrong = {"wrong_label": {"count": 1, "example": "expected Coat"}}
        for kind in ("unique", "repeated", "jobs"):
            with self.assertRaisesRegex(Problem, "expected Coat"):
                self.load(kind, wrong)

    def test_a_full_queue_is_right_for_jobs_only(self):
        full = {"queue_full": {"count": 9, "example": "429"}}
        self.assertEqual(self.load("jobs", full)["report"]["requests_per_second"], 100.0)
        self.assertIn("--submit", self.command.call_args.args[0])
        with self.assertRaises(Problem):
            self.load("unique", full)


class Loads(unittest.TestCase):
    def test_the_constant_server_gets_no_new_pictures_and_only_ours_get_jobs(self):
        self.assertEqual({load.kind for load in loads("constant", True, True)}, {"repeated"})
        self.assertEqual({load.kind for load in loads("fastapi", True, True)}, {"unique", "repeated"})
        self.assertEqual([load.kind for load in loads("fleet", True, True)][-1], "jobs")
        self.assertNotIn("jobs", {load.kind for load in loads("fleet", True, False)})

    def test_jobs_are_followed_in_the_last_round_where_there_is_a_store(self):
        followed = {(name, last) for name in ("embedded", "fleet") for last in (True, False) if any(load.follow for load in loads(name, last, True))}
        self.assertEqual(followed, {("fleet", True)})


class MadeModel(unittest.TestCase):
    def test_fields_are_encoded_as_protocol_buffers_has_them(self):
        # The examples of the specification.
        self.assertEqual(resnet50.message((1, 150)), bytes.fromhex("089601"))
        self.assertEqual(resnet50.message((2, b"testing")), bytes.fromhex("120774657374696e67"))

    def test_it_has_the_layers_and_the_weights_of_resnet_50(self):
        counts = []

        def weight(_graph, dims: list[int], _fan_in: int, _scale: float = 1.0) -> str:
            counts.append(math.prod(dims))
            return "weight"

        with unittest.mock.patch.object(resnet50.Graph, "weight", weight):
            graph = resnet50.Graph()
            graph.model()
        self.assertEqual([sum(name in node for node in graph.nodes) for name in (b"\x04Conv", b"\x04Gemm", b"\x03Add")], [53, 1, 16])
        self.assertAlmostEqual(sum(counts) / 1e6, 25.5, delta=0.1)


if __name__ == "__main__":
    unittest.main()
