"""Results of each task, as the server's JSON has them."""

from __future__ import annotations

import unittest
from typing import Any

from selvage import Detection, Detections, Embedding, Job, Label, Labels, Output, Result


def job(output: dict[str, Any] | None) -> Job:
    """A job that has ended with this output."""
    return Job.read(
        {
            "id": "1",
            "status": "succeeded",
            "model": {"name": "m", "version": "1"},
            "output": output,
            "error": None,
            "queue": None,
            "cached": False,
            "created_at": "2026-11-28T12:00:00Z",
            "finished_at": None,
            "metadata": {},
        }
    )


class Results(unittest.TestCase):
    def test_each_task_has_a_type(self) -> None:
        crane = {"label": "crane", "index": 0, "score": 0.5}
        label = Label("crane", 0, 0.5)
        cases: list[tuple[dict[str, Any], Result]] = [
            ({**crane, "top": [crane]}, Output("crane", 0, 0.5, (label,))),
            ({"task": "classify", **crane, "top": [crane]}, Output("crane", 0, 0.5, (label,))),
            ({"task": "multilabel", "threshold": 0.6, "labels": [], "top": [crane]}, Labels(0.6, (), (label,))),
            (
                {"task": "detect", "width": 8, "height": 9, "boxes": [{**crane, "box": [1, 2, 3.5, 4]}]},
                Detections(8, 9, (Detection("crane", 0, 0.5, (1, 2, 3.5, 4)),)),
            ),
            ({"task": "embed", "embedding": [0.5, -1]}, Embedding((0.5, -1))),
        ]
        for raw, expected in cases:
            self.assertEqual(job(raw).result, expected)

    def test_only_a_classifier_has_a_best_label(self) -> None:
        self.assertEqual(job({"label": "crane", "index": 0, "score": 0.5, "top": []}).label, "crane")
        with self.assertRaisesRegex(TypeError, "no classifier"):
            _ = job({"task": "embed", "embedding": [1]}).label

    def test_a_task_of_a_later_server_is_named(self) -> None:
        with self.assertRaisesRegex(ValueError, "'segment'"):
            job({"task": "segment"})
