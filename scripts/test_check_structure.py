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


def made(check, **files: str):
    """A crate `made` of these files."""
    with tempfile.TemporaryDirectory() as folder:
        check.PROJECT = Path(folder)
        source = check.PROJECT / "made/src"
        for name, text in files.items():
            path = source / (name.replace("__", "/") + ".rs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check.Crate("made")


class Circles(unittest.TestCase):
    def circles(self, **files: str):
        check = load()
        return check.circles(made(check, **files).imports())

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


class Layers(unittest.TestCase):
    def wrong(self, **files: str):
        check = load()
        check.LAYERS = {"made": {"high": {"low"}, "low": set()}}
        check.ONLY = {("tool", "selvage_core::redis"): ["made/high"]}
        crate = made(check, **files)
        return [*crate.wrong_layers(), *crate.wrong_places()]

    def test_arrows_that_point_down_are_right(self):
        high = "use crate::low::x::X;\nuse tool::Y;\npub struct H;\n"
        self.assertEqual(self.wrong(lib="pub mod high;\npub mod low;\npub use high::H;\n", high=high, low__mod="pub mod x;\n", low__x="pub struct X;\n"), [])

    def test_an_arrow_that_points_up_is_found_in_a_use_and_inline(self):
        high = "pub struct H;\n"
        for low in ("use crate::{high::H};\n", "fn f(_: crate::high::H) {}\n", "fn f() {\n    use crate::high::H;\n}\n"):
            found = self.wrong(lib="mod high;\nmod low;\n", high=high, low=low)
            self.assertEqual(found, ["low imports high, but low must not import high"], low)

    def test_a_folder_without_a_layer_is_found(self):
        self.assertEqual(self.wrong(lib="mod other;\n", other="pub struct O;\n"), ["other is in no layer"])

    def test_a_crate_is_imported_in_its_place_only(self):
        for low in ("use tool::Y;\n", "pub use tool::Y;\n", "use tool;\n", "fn f() {\n    tool::run();\n}\n"):
            self.assertEqual(len(self.wrong(low=low)), 1, low)
        self.assertEqual(len(self.wrong(low="use selvage_core::redis::Store;\n")), 1)
        others = "use toolbox::Y;\nuse selvage_core::tool::Z;\nfn f() -> &'static str {\n    \"tool::y\"\n}\n"
        self.assertEqual(self.wrong(low=others), [])


if __name__ == "__main__":
    unittest.main()
