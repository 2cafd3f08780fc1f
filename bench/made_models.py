#!/usr/bin/env python3
"""Makes models of other costs than the shipped one, with random weights: good for timing, useless for pictures.

    made_models.py cheap|usual|heavy FOLDER

writes FOLDER/<name>/model.onnx and model.toml. The weights depend on the name alone, so the answers are the same every time.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Filters of 5x5 with stride 2, then of 3x3 at that size. On one core a picture takes `cheap` some 35 us, `usual` some 365 us,
# the cost that docs/PERFORMANCE.md's targets were set with, and `heavy` some 10 ms.
SHAPES = {"cheap": ((16, 24), 0), "usual": ((64, 96), 8), "heavy": ((96, 192), 66)}
LABELS = 10
SIDE = 28
# Random logits lie close together; spread out, few pictures are undecided.
SPREAD = 20.0
# Deep random networks give all pictures one answer; as small additions their layers do not.
RESIDUAL_SCALE = 0.1

DESCRIPTION = """\
name = "{name}"
version = "1"
description = "Random weights, for timing only."
file = "model.onnx"
max_batch = 32
labels = [{labels}]

[input]
width = 28
height = 28
channels = "gray"
layout = "nchw"
polarity = "keep"
mean = [0.2860]
std = [0.3530]

[output]
softmax = true
"""


def main() -> None:
    """Writes one model."""
    name, target = sys.argv[1], Path(sys.argv[2])
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model(name), folder / "model.onnx")
    labels = ", ".join(f'"label {number}"' for number in range(LABELS))
    (folder / "model.toml").write_text(DESCRIPTION.format(name=name, labels=labels))


def model(name: str) -> onnx.ModelProto:
    """Two convolutions with stride 2, some more without, and a linear layer."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    filters, more = SHAPES[name]
    nodes, weights = [], []
    value, channels, side = "image", 1, SIDE
    layers = [(count, 5, 2) for count in filters] + [(filters[-1], 3, 1)] * more
    for number, (count, size, stride) in enumerate(layers):
        is_residual = number >= len(filters)
        fan_in = channels * size * size
        scale = RESIDUAL_SCALE if is_residual else 1.0
        kernel = random.normal(0, scale * (2 / fan_in) ** 0.5, (count, channels, size, size)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{number}"))
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [value, f"kernel{number}"], [f"conv{number}"], pads=pads, strides=[stride] * 2))
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"]))
        if is_residual:
            nodes.append(helper.make_node("Add", [value, f"relu{number}"], [f"sum{number}"]))
        value, channels, side = f"sum{number}" if is_residual else f"relu{number}", count, -(-side // stride)
    inputs = channels * side * side
    linear = random.normal(0, SPREAD * inputs**-0.5, (inputs, LABELS)).astype(np.float32)
    weights.append(numpy_helper.from_array(linear, "linear"))
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "linear"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", LABELS])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


if __name__ == "__main__":
    main()
