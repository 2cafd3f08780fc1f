"""The folder of models for a run: it holds the measured model alone, so that nothing else takes memory or threads."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from . import venvs
from .procs import Problem

# Models that are made for timing, see `made_models.py`.
MADE = ("cheap", "usual", "heavy")


def max_batch(folder: Path, name: str) -> int:
    """Most images in one inference of that model; 16 where its description says nothing."""
    return tomllib.loads((folder / name / "model.toml").read_text()).get("max_batch", 16)


def folder_with(project: Path, models: Path, name: str, target: Path) -> Path:
    """Makes a folder with that model, copied out of `models` or made again, and returns it."""
    target.mkdir()
    if name in MADE:
        python = venvs.environment(project, "models", project / "bench" / "requirements-models.txt") / "python"
        made = [str(python), str(project / "bench" / "made_models.py"), name, str(target)]
        venvs.run(made, f"the model `{name}` could not be made")
        return target
    source = models / name
    if not (source / "model.toml").is_file():
        raise Problem(f"{source} has no model.toml")
    (target / name).mkdir()
    for file in ("model.toml", tomllib.loads((source / "model.toml").read_text())["file"]):
        shutil.copyfile(source / file, target / name / file)
    return target
