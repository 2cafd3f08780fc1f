"""The model as both Python baselines use it: loaded once, PNG bytes in, JSON text out. No HTTP and no queue here.

It reads the same `model.toml` and ONNX file as Selvage, with ONNX Runtime's own Python interface, so it also is a second
opinion on the labels. Pictures must have the model's size already; the benchmark sends no others.
"""

from __future__ import annotations

import io
import json
import os
import tomllib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

CACHED_ANSWERS = 10_000


class Classifier:
    """One session with one thread."""

    def __init__(self, folder: Path):
        description = tomllib.loads((folder / "model.toml").read_text())
        self.labels = description["labels"]
        self.softmax = description.get("output", {}).get("softmax", False)
        self.mode = {"gray": "L", "rgb": "RGB"}[description["input"]["channels"]]
        self.mean = np.array(description["input"]["mean"], np.float32)
        self.std = np.array(description["input"]["std"], np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = str(folder / description["file"])
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name
        size = (1, description["input"]["height"], description["input"]["width"], len(self.mean))
        self.scores(np.zeros(size, np.uint8))

    @classmethod
    def from_environment(cls) -> Classifier:
        """Loads the model of the folder that BASELINE_MODEL names."""
        return cls(Path(os.environ["BASELINE_MODEL"]))

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Scores [labels] of one picture, uint8 [1, height, width, channels]."""
        tensor = ((pixels.astype(np.float32) / np.float32(255)) - self.mean) / self.std
        (scores,) = self.session.run(None, {self.input_name: np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))})
        if self.softmax:
            powers = np.exp(scores[0] - scores[0].max())
            return powers / powers.sum()
        return scores[0]

    def answer(self, picture: bytes) -> str:
        """The answer to an encoded picture as JSON; raises OSError where it is none."""
        image = Image.open(io.BytesIO(picture)).convert(self.mode)
        pixels = np.asarray(image, np.uint8).reshape(1, image.height, image.width, len(self.mean))
        scores = self.scores(pixels)
        best = int(scores.argmax())
        output = {
            "label": self.labels[best],
            "score": float(scores[best]),
            "scores": dict(zip(self.labels, scores.tolist(), strict=True)),
        }
        return json.dumps({"output": output}, ensure_ascii=False)


class AnswerCache:
    """The last answers, by the SHA-256 of the picture; what was not asked for longest goes first."""

    def __init__(self) -> None:
        self.answers: OrderedDict[bytes, str] = OrderedDict()

    def get(self, key: bytes) -> str | None:
        """The answer, if it is known."""
        answer = self.answers.get(key)
        if answer is not None:
            self.answers.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: str) -> None:
        """Keeps an answer."""
        self.answers[key] = answer
        if len(self.answers) > CACHED_ANSWERS:
            self.answers.popitem(last=False)
