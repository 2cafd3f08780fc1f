"""ResNet-50 with random weights as a folder that Selvage serves: good for timing, useless for pictures.

Written with Python's own library alone, so that it can be made on any machine. Batch normalisation is folded into the convolutions, as
an export does it.
"""

from __future__ import annotations

import random
from array import array
from pathlib import Path

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
LABELS = 1000
SIDE = 224
# The last layer of a block adds little, otherwise the values would grow from block to block.
LAST_SCALE = 0.2

DESCRIPTION = """\
name = "resnet50"
version = "1"
description = "Random weights, for timing only."
file = "model.onnx"
max_batch = {max_batch}
labels = [{labels}]

[input]
width = 224
height = 224
channels = "rgb"
layout = "nchw"
resize = "shortest_side"
resize_to = 256
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[output]
softmax = true
"""


def write(folder: Path, max_batch: int) -> None:
    """Writes `model.onnx` and `model.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(Graph().model())
    labels = ", ".join(f'"label {number}"' for number in range(LABELS))
    (folder / "model.toml").write_text(DESCRIPTION.format(max_batch=max_batch, labels=labels))


class Graph:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.weights: list[bytes] = []
        self.random = random.Random(50)
        # Uniform over [-1, 1), by 16 random bits.
        self.uniform = array("f", (number / 32768 - 1 for number in range(65536)))

    def model(self) -> bytes:
        """The whole file."""
        value = self.convolve("image", 3, 64, 7, stride=2)
        value = self.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        channels = 64
        for stage, (width, blocks) in enumerate(STAGES):
            for block in range(blocks):
                value = self.block(value, channels, width, stride=2 if stage and not block else 1)
                channels = 4 * width
        value = self.node("Flatten", [self.node("GlobalAveragePool", [value])], axis=1)
        weights = [self.weight([LABELS, channels], channels), self.weight([LABELS], channels)]
        self.node("Gemm", [value, *weights], output="scores", transB=1)
        image, scores = value_info("image", ["N", 3, SIDE, SIDE]), value_info("scores", ["N", LABELS])
        parts = [(1, node) for node in self.nodes] + [(2, b"resnet50")] + [(5, weight) for weight in self.weights]
        graph = message(*parts, (11, image), (12, scores))
        return message((1, 8), (7, graph), (8, message((1, b""), (2, 13))))

    def block(self, value: str, channels: int, width: int, stride: int) -> str:
        """A bottleneck."""
        inner = self.convolve(value, channels, width, 1)
        inner = self.convolve(inner, width, width, 3, stride)
        inner = self.convolve(inner, width, 4 * width, 1, scale=LAST_SCALE, relu=False)
        if channels != 4 * width:
            value = self.convolve(value, channels, 4 * width, 1, stride, relu=False)
        return self.node("Relu", [self.node("Add", [inner, value])])

    def convolve(self, value: str, channels: int, filters: int, size: int, stride: int = 1, scale: float = 1.0, relu: bool = True) -> str:
        """A convolution with its bias, and what follows it."""
        fan_in = channels * size * size
        weights = [self.weight([filters, channels, size, size], fan_in, scale), self.weight([filters], fan_in, scale)]
        value = self.node("Conv", [value, *weights], kernel_shape=[size, size], strides=[stride] * 2, pads=[size // 2] * 4)
        return self.node("Relu", [value]) if relu else value

    def weight(self, dims: list[int], fan_in: int, scale: float = 1.0) -> str:
        """A tensor of random values."""
        count = 1
        for dim in dims:
            count *= dim
        spread = scale * (6 / fan_in) ** 0.5
        table = array("f", (spread * value for value in self.uniform))
        values = array("f", map(table.__getitem__, array("H", self.random.randbytes(2 * count))))
        name = f"weight{len(self.weights)}"
        self.weights.append(message(*((1, dim) for dim in dims), (2, 1), (8, name.encode()), (9, values.tobytes())))
        return name

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: int | list[int]) -> str:
        """One node; returns the name of its output."""
        output = output or f"value{len(self.nodes)}"
        fields = [(1, name.encode()) for name in inputs] + [(2, output.encode()), (4, operator.encode())]
        for name, value in attributes.items():
            number, kind = (8, 7) if isinstance(value, list) else (3, 2)
            values = value if isinstance(value, list) else [value]
            fields.append((5, message((1, name.encode()), *((number, each) for each in values), (20, kind))))
        self.nodes.append(message(*fields))
        return output


def value_info(name: str, dims: list[int | str]) -> bytes:
    """A tensor of float32 at the edge of the graph."""
    each = [message((2, dim.encode()) if isinstance(dim, str) else (1, dim)) for dim in dims]
    shape = message(*((1, dim) for dim in each))
    return message((1, name.encode()), (2, message((1, message((1, 1), (2, shape))))))


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Protocol Buffers' encoding of these fields: numbers, and bytes for all else."""
    encoded = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            encoded += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(encoded)


def varint(value: int) -> bytes:
    """A number, seven bits a byte."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
