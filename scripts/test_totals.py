"""Tests of `totals.py` on the output of cargo and unittest."""

from __future__ import annotations

import unittest

from totals import CargoCounter, PythonCounter, Totals, closing_line, has_succeeded

CARGO_GREEN = """\
    Finished `test` profile [optimized + debuginfo] target(s) in 0.10s
     Running unittests src/lib.rs (target/debug/deps/selvage_core-0123456789abcdef)
running 2 tests
..
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running unittests src/main.rs (target/debug/deps/selvage_gateway-0123456789abcdef)
running 0 tests
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running black_box.rs (target/debug/deps/black_box-0123456789abcdef)
running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

   Doc-tests selvage_core
running 0 tests
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
"""


def cargo(output: str, status: int = 0) -> Totals:
    """Counts cargo's output."""
    totals = Totals()
    counter = CargoCounter(totals)
    for line in output.splitlines():
        counter.line(line)
    counter.end(status)
    return totals


def python(output: str, status: int = 0) -> Totals:
    """Counts unittest's output."""
    totals = Totals()
    counter = PythonCounter(totals)
    for line in output.splitlines():
        counter.line(line)
    counter.end(status)
    return totals


class Cargo(unittest.TestCase):
    def test_all_programs_are_added_up(self):
        totals = cargo(CARGO_GREEN)
        self.assertEqual(closing_line(totals), "5 passed, 0 failed, 1 skipped")
        self.assertTrue(has_succeeded(totals))

    def test_colours_do_not_hide_results(self):
        coloured = CARGO_GREEN.replace("     Running", "\x1b[1m\x1b[32m     Running\x1b[0m").replace(" ok.", " \x1b[32mok\x1b[0m.")
        self.assertEqual(closing_line(cargo(coloured)), "5 passed, 0 failed, 1 skipped")

    def test_a_failed_test_fails_the_run(self):
        totals = cargo(CARGO_GREEN.replace("ok. 3 passed; 0 failed", "FAILED. 2 passed; 1 failed"), status=101)
        self.assertEqual(closing_line(totals), "4 passed, 1 failed, 1 skipped")
        self.assertFalse(has_succeeded(totals))

    def test_a_test_program_without_a_test_fails_the_run(self):
        totals = cargo(CARGO_GREEN.replace("3 passed", "0 passed"))
        self.assertEqual(totals.problems, ["black_box.rs ran no test"])
        self.assertFalse(has_succeeded(totals))

    def test_a_test_program_that_crashes_fails_the_run(self):
        totals = cargo(CARGO_GREEN.replace("test result: ok. 3", "free(): invalid pointer 3"), status=101)
        self.assertIn("black_box.rs ended without a result", totals.problems)
        self.assertFalse(has_succeeded(totals))

    def test_no_test_at_all_fails_the_run(self):
        for status in (0, 101):
            self.assertFalse(has_succeeded(cargo("error: could not compile\n", status)))

    def test_a_status_that_no_failed_test_explains_fails_the_run(self):
        self.assertFalse(has_succeeded(cargo(CARGO_GREEN, status=101)))


class Python(unittest.TestCase):
    def test_passed_failed_and_skipped_are_distinguished(self):
        totals = python("Ran 9 tests in 1.0s\n\nFAILED (failures=1, errors=2, skipped=3)\n", status=1)
        self.assertEqual(closing_line(totals), "3 passed, 3 failed, 3 skipped")
        self.assertTrue(has_succeeded(python("Ran 1 test in 0.1s\n\nOK\n")))
        self.assertTrue(has_succeeded(python("Ran 2 tests in 0.1s\n\nOK (skipped=1)\n")))

    def test_no_result_fails_the_run(self):
        self.assertFalse(has_succeeded(python("Ran 0 tests in 0.0s\n\nOK\n")))
        self.assertFalse(has_succeeded(python("Traceback\n", status=1)))


if __name__ == "__main__":
    unittest.main()
