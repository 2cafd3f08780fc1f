"""The networks (student and teacher are one family), batch-norm folding, ONNX export.

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

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def fold(self) -> nn.Conv2d:
        return fuse_conv_bn_eval(self[0], self[1])


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, ConvNorm(inputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu_(self.first(x)))
        return torch.relu_(y.add_(self.shortcut(x)))


class Net(nn.Module):
    """A small residual network: `stages` are (filters, blocks, stride of the first block)."""

    def __init__(self, stem: int, stages: list[tuple[int, int, int]], classes: int = 10):
        super().__init__()
        self.stem = ConvNorm(1, stem)
        blocks, width = [], stem
        for filters, count, stride in stages:
            for i in range(count):
                blocks.append(Residual(width, filters, stride if i == 0 else 1))
                width = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)
        for block in blocks:  # a residual block starts as its shortcut
            nn.init.zeros_(block.second[1].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu_(self.stem(x)))
        return self.head(x.mean((2, 3)))


def student() -> Net:
    """The network that is served."""
    return Net(32, [(56, 1, 2), (112, 1, 2)])


def teacher() -> Net:
    """The larger network whose answers the student learns from; never served."""
    return Net(64, [(64, 1, 1), (128, 1, 2), (256, 1, 2)])


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
