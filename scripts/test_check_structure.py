"""Tests of check-structure, on a crate made for them."""

import importlib.util
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

HERE = Path(__file__).resolve().parent


def load():
    loader = SourceFileLoader("check_structure", str(HERE / "check-structure"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


class Circles(unittest.TestCase):
    def circles(self, **files: str):
        check = load()
        with tempfile.TemporaryDirectory() as folder:
            check.PROJECT = Path(folder)
            source = check.PROJECT / "made/src"
            for name, text in files.items():
                path = source / (name.replace("__", "/") + ".rs")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check.circles(check.Crate("made").imports())

    def test_two_files_that_import_each_other_are_found(self):
        found = self.circles(lib="mod a;\nmod b;\n", a="use crate::b::B;\npub struct A;\n", b="pub struct B(crate::a::A);\n")
        self.assertEqual(found, [[("a",), ("b",)]])

    def test_a_way_through_a_re_export_is_the_file_that_defines_the_name(self):
        parent = "mod x;\nmod y;\npub use x::X;\nuse y::Y;\nfn f(_: Y) {}\n"
        found = self.circles(lib="mod p;\n", p__mod=parent, p__x="pub struct X;\n", p__y="use super::X;\npub struct Y(X);\n")
        self.assertEqual(found, [])

    def test_a_file_that_uses_its_parents_own_items_is_found(self):
        found = self.circles(lib="mod p;\n", p__mod="mod x;\nuse x::X;\npub struct P(X);\n", p__x="use super::P;\npub struct X;\n")
        self.assertEqual(found, [[("p",), ("p", "x")]])

    def test_tests_do_not_count(self):
        found = self.circles(lib="mod a;\nmod b;\n", a="use crate::b::B;\n", b="pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n")
        self.assertEqual(found, [])


if __name__ == "__main__":
    unittest.main()
