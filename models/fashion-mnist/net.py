"""The networks (student and teachers are one family), batch-norm folding, ONNX export.

No training and no data belong here.
"""

import copy
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNorm(nn.Sequential):
    """Convolution and batch norm; `fold` merges the second into the first."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def fold(self) -> nn.Conv2d:
        return fuse_conv_bn_eval(self[0], self[1])


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2015)."""

    def __init__(self, inputs: int, middle: int, outputs: int):
        super().__init__()
        self.first = ConvNorm(inputs, middle)
        self.second = ConvNorm(middle, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else ConvNorm(inputs, outputs, 1)
        nn.init.zeros_(self.second[1].weight)  # the block starts as its shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu_(self.first(x)))
        return torch.relu_(y.add_(self.shortcut(x)))


class Net(nn.Module):
    """A small residual network with a hidden layer that sees where things are.

    `stages` holds the blocks, each (middle, outputs), at 28x28, 14x14 and 7x7 pixels; `squeeze`
    is a last 1x1 convolution. The pictures are aligned, so flattening the last 7x7 map learns
    faster and better here than a mean over it; so does full resolution in the first stage.
    """

    def __init__(
        self, stem: int, stages: list[list[tuple[int, int]]], hidden: int,
        squeeze: int = 0, drop: float = 0.0, classes: int = 10,
    ):
        super().__init__()
        self.stem = ConvNorm(1, stem)
        layers, width = [], stem
        for number, stage in enumerate(stages):
            if number > 0:
                layers.append(nn.MaxPool2d(2))
            for middle, outputs in stage:
                layers.append(Residual(width, middle, outputs))
                width = outputs
        if squeeze:
            layers += [ConvNorm(width, squeeze, 1), nn.ReLU(inplace=True)]
            width = squeeze
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(drop), nn.Linear(width * 49, hidden), nn.ReLU(),
            nn.Dropout(drop), nn.Linear(hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu_(self.stem(x))))


def student() -> Net:
    """The network that is served. Widths are multiples of 16, which ONNX Runtime's blocked
    convolutions need, and keep it no dearer than `reference`."""
    return Net(16, [[(16, 16)], [(48, 48)], [(64, 64), (64, 64)]], hidden=128)


def wide() -> Net:
    """A network of three times the cost that makes other mistakes; a teacher, never served."""
    return Net(32, [[(32, 32)], [(64, 64)], [(128, 128), (128, 128)]], hidden=128, squeeze=64, drop=0.2)


# Whose answers the student learns from: its own architecture, trained on labels alone, and the wider one.
TEACHERS = (student, wide)


class Mirrored(nn.Module):
    """Asks the network about each picture and its mirror image, in one batch, and returns the mean."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.net(torch.cat([x, x.flip(3)]))
        return both.unflatten(0, (2, x.shape[0])).mean(0)


def reference() -> nn.Module:
    """The plain CNN whose cost the student is compared with: 32-32-64-64 filters, 128 hidden."""
    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(
        *conv(1, 32), *conv(32, 32), nn.MaxPool2d(2),
        *conv(32, 64), *conv(64, 64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )


def folded(net: nn.Module) -> nn.Module:
    """Returns a copy for inference, every batch norm merged into its convolution."""
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, child.fold())
    return net


def export(net: nn.Module, path: Path) -> None:
    """Writes `net` as one ONNX file: `image` [n, 1, 28, 28] in, `logits` [n, 10] out."""
    program = torch.onnx.export(
        folded(net).to(memory_format=torch.contiguous_format),
        (torch.zeros(2, 1, 28, 28),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    model = program.model_proto
    for node in model.graph.node:  # source lines of the exporting machine
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
