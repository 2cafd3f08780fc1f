"""Tests of `scripts/check-links`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "check-links"
PAGE = """\
# A page

## Two words, and `code`!

[file](other.md) [folder](docs) [heading](#two-words-and-code) [other's heading](docs/deep.md#deep-1) ![picture](a%20b.png)
[site](https://example.org/nowhere) [mail](mailto:a@example.org) `[not a](link)`

```
[also not a](link)
```

[reference]: <other.md> "A title"
"""


class CheckLinks(unittest.TestCase):
    def setUp(self):
        top = tempfile.TemporaryDirectory(prefix="selvage-test-")
        self.addCleanup(top.cleanup)
        self.top = Path(top.name)
        (self.top / "scripts").mkdir()
        (self.top / "docs").mkdir()
        shutil.copy(SCRIPT, self.top / "scripts")
        subprocess.run(["git", "init", "-q", self.top], check=True)
        (self.top / "page.md").write_text(PAGE)
        (self.top / "other.md").write_text("")
        (self.top / "a b.png").write_text("")
        (self.top / "docs" / "deep.md").write_text("# Deep\n\n# Deep\n\n[up](../page.md)\n")

    def check(self) -> subprocess.CompletedProcess:
        """Runs the script on the folder."""
        return subprocess.run([sys.executable, self.top / "scripts" / SCRIPT.name], capture_output=True, text=True)

    def test_links_that_lead_somewhere_pass(self):
        self.assertEqual((self.check().returncode, self.check().stderr), (0, ""))

    def test_a_missing_file_is_named_with_its_page(self):
        (self.top / "a b.png").unlink()
        checked = self.check()
        self.assertEqual((checked.returncode, checked.stderr), (1, "page.md: a%20b.png: no such file\n"))

    def test_a_missing_heading_is_named_with_its_page(self):
        (self.top / "docs" / "deep.md").write_text("# Deep\n")
        checked = self.check()
        self.assertEqual((checked.returncode, checked.stderr), (1, "page.md: docs/deep.md#deep-1: no such heading\n"))

    def test_a_missing_reference_target_is_found(self):
        (self.top / "other.md").rename(self.top / "renamed.md")
        self.assertEqual(self.check().stderr.count("other.md: no such file"), 2)


if __name__ == "__main__":
    unittest.main()
