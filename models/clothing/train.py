"""Trains the clothing model that is served, and exports it to ONNX, float32 and int8.

    python models/clothing/train.py --data clothing-photos.tar
    python models/clothing/train.py --data clothing-photos.tar --quick   # a smoke run of a minute or two

Steps: start from EfficientNet-Lite2 with ImageNet's weights; compute what the lower blocks, which stay as they are, make of
some augmented views of each training photograph, once; train the upper blocks and the head on that; average the weights;
fit one temperature on the validation photographs and divide the last layer by it; export, quantise, measure both files.
"""

import argparse
import copy
import json
import math
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet

import measure
import net
from data import LABELS, Photo, augmented, covered, load, normalise, prepared, upright

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from quantise import quantise  # noqa: E402, shared by the models

# Training photographs whose activations say what range each tensor has.
CALIBRATION = 200


@dataclass(frozen=True)
class Recipe:
    """How the upper blocks are trained."""

    epochs: int = 8
    views: int = 4  # of each photograph; epochs take them in turn
    batch: int = 32
    lr: float = 5e-4  # of the pretrained blocks
    head: float = 10.0  # how much faster the new last layer learns
    decay: float = 0.05
    warmup: float = 0.1  # part of the steps in which the rate rises
    smooth: float = 0.1
    mix: float = 0.2  # parameter of mixup's beta distribution
    average: float = 0.99  # of the weights, per step


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@torch.inference_mode()
def features(network: EfficientNet, pixels: np.ndarray) -> torch.Tensor:
    """The lower blocks' answer, in half the bytes."""
    x = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
    return net.lower(network.eval(), x).half()


def views_of(network: EfficientNet, photos: list[Photo], views: int, seed: int) -> list[torch.Tensor]:
    """Features of the photographs, one tensor per view: the first as served, the others augmented."""
    parts: list[list[torch.Tensor]] = [[] for _ in range(views)]
    for start in range(0, len(photos), 8):
        images = [upright(photo.jpeg) for photo in photos[start:start + 8]]
        for view, done in enumerate(parts):
            rng = np.random.default_rng([seed, view, start])
            done.append(features(network, normalise(
                [augmented(image, rng) if view else covered(image) for image in images])))
        if start % 1024 == 0:
            log(f"features of {start + len(images)} photographs, {views} views")
    return [torch.cat(done) for done in parts]


@torch.inference_mode()
def logits(network: EfficientNet, x: torch.Tensor) -> torch.Tensor:
    network.eval()
    return torch.cat([net.upper(network, part.float()) for part in x.split(32)])


def rate(step: int, steps: int, warmup: float) -> float:
    """One cycle: linear rise, then half a cosine down to zero; 1 at the top."""
    rise = max(1, int(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@torch.no_grad()
def average(mean: EfficientNet, network: EfficientNet, keep: float) -> None:
    """Moves the averaged copy (weights and batch-norm statistics) towards the network."""
    for a, b in zip(net.upper_modules(mean), net.upper_modules(network)):
        for p, q in zip(a.state_dict().values(), b.state_dict().values()):
            if p.dtype.is_floating_point:
                p.lerp_(q, 1 - keep)
            else:
                p.copy_(q)


def mixed_loss(network: EfficientNet, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, rng: np.random.Generator) -> torch.Tensor:
    """Cross entropy, smoothed, on features mixed pair by pair (Zhang et al., 2018; Verma et al., 2019)."""
    share = float(rng.beta(recipe.mix, recipe.mix))
    other = torch.from_numpy(rng.permutation(len(x)))
    z = net.upper(network, (share * x + (1 - share) * x[other]).contiguous(memory_format=torch.channels_last))
    first = F.cross_entropy(z, y, label_smoothing=recipe.smooth)
    return share * first + (1 - share) * F.cross_entropy(z, y[other], label_smoothing=recipe.smooth)


def fit(
    network: EfficientNet, views: list[torch.Tensor], y: torch.Tensor, recipe: Recipe, seed: int,
    check: tuple[torch.Tensor, torch.Tensor],
) -> EfficientNet:
    """Trains the upper part and returns the averaged network."""
    mean, rng = copy.deepcopy(network), np.random.default_rng([seed, 1])
    head = list(network._fc.parameters())
    blocks = [p for m in net.upper_modules(network)[:-1] for p in m.parameters()]
    groups = [
        {"params": [p for p in blocks if p.ndim > 1], "weight_decay": recipe.decay, "top": recipe.lr},
        {"params": [p for p in blocks if p.ndim <= 1], "weight_decay": 0.0, "top": recipe.lr},
        {"params": head, "weight_decay": recipe.decay, "top": recipe.lr * recipe.head},
    ]
    optimiser = torch.optim.AdamW(groups)
    steps, step, start = recipe.epochs * (len(y) // recipe.batch), 0, time.time()
    for epoch in range(recipe.epochs):
        network.train()
        x, total = views[(epoch + 1) % len(views)], 0.0
        for chosen in torch.from_numpy(rng.permutation(len(y))).split(recipe.batch):
            if len(chosen) < recipe.batch:
                continue
            for group in optimiser.param_groups:
                group["lr"] = group["top"] * rate(step, steps, recipe.warmup)
            loss = mixed_loss(network, x[chosen].float(), y[chosen], recipe, rng)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average(mean, network, min(recipe.average, (1 + step) / (10 + step)))
            step += 1
            total += loss.item()
        right = (logits(mean, check[0]).argmax(1) == check[1]).float().mean().item()
        log(f"epoch {epoch + 1}/{recipe.epochs}, {(time.time() - start) / (epoch + 1):.1f} s each, "
            f"loss {total * recipe.batch / len(y):.4f}, validation {right:.4f}")
    return mean


@torch.no_grad()
def calibrate(network: EfficientNet, z: torch.Tensor, y: torch.Tensor) -> float:
    """Divides the last layer by the temperature under which `z` is likeliest (Guo et al., 2017); returns it."""
    choices = [t / 100 for t in range(30, 200)]
    best = min(choices, key=lambda t: F.cross_entropy(z / t, y).item())
    network._fc.weight /= best
    network._fc.bias /= best
    return best


def verify(network: EfficientNet, model: Path, photos: list[Photo]) -> float:
    """The largest difference between the exported file and PyTorch, in logits."""
    with torch.inference_mode():
        expected = net.Whole(network)(torch.from_numpy(prepared(photos))).numpy()
    difference = float(np.abs(measure.logits(model, photos) - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"{model} differs from PyTorch by {difference}")
    return difference


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clothing-photos.tar, or the folder it unpacks to")
    parser.add_argument("--out", type=Path, help="where the model and report.json go (default: beside this file)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a pass over 200 photographs into a scratch folder: does it run?")
    args = parser.parse_args()
    args.work = HERE / ".train"
    args.out = args.out or (args.work / "quick" if args.quick else HERE)
    return args


def main() -> None:
    args, start, recipe = arguments(), time.time(), Recipe()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(exist_ok=True)
    torch.manual_seed(args.seed)
    train, validation = load(args.data, "train"), load(args.data, "validation")
    if args.quick:
        train, recipe = train[::len(train) // 200], replace(recipe, epochs=1, views=2)
    log(f"{len(train)} photographs to train on, {len(validation)} to judge by, {len(LABELS)} classes")

    network = net.pretrained()
    y, y_check = (torch.tensor([photo.label for photo in photos]) for photos in (train, validation))
    x_check = views_of(network, validation, 1, args.seed)[0]
    views = views_of(network, train, recipe.views, args.seed)
    network = fit(network, views, y, recipe, args.seed, (x_check, y_check))
    report: dict = {"temperature": calibrate(network, logits(network, x_check), y_check)}
    log(f"temperature {report['temperature']}, folded into the last layer")

    plain, served = args.work / "float32.onnx", args.out / "model.onnx"
    net.export(network, plain)
    report["difference_from_torch"] = verify(network, plain, validation[::10])
    chosen = random.Random(args.seed).sample(train, min(CALIBRATION, len(train)))
    quantise(plain, served, (prepared(chosen[i:i + 8]) for i in range(0, len(chosen), 8)))
    for name, file in ("float32", plain), ("int8", served):
        report[name] = {"validation": measure.answers(file, validation), "cost": measure.cost(file)}
        log(f"{name}: validation {report[name]['validation']['accuracy']}, cost {report[name]['cost']}")
    report["seconds"] = round(time.time() - start)
    (args.out / "report.json").write_text(json.dumps(report) + "\n")
    log(f"wrote {served} and report.json")


if __name__ == "__main__":
    main()
