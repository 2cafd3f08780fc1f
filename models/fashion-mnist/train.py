"""Trains the Fashion-MNIST model that is served, and exports it to ONNX.

    python models/fashion-mnist/train.py            # writes model.onnx and report.json beside this file
    python models/fashion-mnist/train.py --quick    # a smoke run of about a minute, into a scratch folder

Steps: hold out part of the training images; train on the rest; fold, export, compare ONNX
Runtime with PyTorch; measure accuracy on the held-out images, then once on the test images;
measure cost. The test images are read in the last step only, and `--no-test` leaves it out:
use that to try recipes.
"""

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import measure
import net
from data import DEBIAN_FOLDER, augment, load, normalise, split

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    epochs: int = 30
    lr: float = 0.1
    batch: int = 128
    decay: float = 5e-4  # on weight matrices and kernels only
    warmup: float = 0.15  # part of the steps in which the rate rises
    shift: int = 2
    erase: float = 0.3
    smooth: float = 0.1
    average: float = 0.999  # of the weights, per step


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def fast(x: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """Runs the network in bfloat16 (AMX where the processor has it); float32 comes back."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network(x.contiguous(memory_format=torch.channels_last)).float()


@torch.inference_mode()
def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    network.eval()
    hits = sum((fast(a, network).argmax(1) == b).sum().item() for a, b in zip(x.split(500), y.split(500)))
    return hits / len(y)


def passes(x: torch.Tensor, recipe: Recipe, seed: int, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pass `number` over `x`: shuffled full batches of (indices, augmented images)."""
    gen = torch.Generator().manual_seed(seed * 100_003 + number)
    order = torch.randperm(len(x), generator=gen)
    for chosen in order.split(recipe.batch):
        if len(chosen) == recipe.batch:
            yield chosen, augment(x[chosen], gen, recipe.shift, recipe.erase)


def rate(step: int, steps: int, warmup: float) -> float:
    """One cycle: linear rise, then half a cosine down to zero; 1 at the top."""
    rise = max(1, int(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, keep: float) -> None:
    """Moves the averaged copy (weights and batch-norm statistics) towards the network."""
    for a, b in zip(mean.state_dict().values(), network.state_dict().values()):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - keep)
        else:
            a.copy_(b)


def optimiser_for(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def fit(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, seed: int,
    check: Callable[[nn.Module], str],
) -> nn.Module:
    """Trains, and returns the averaged network; `check` says after each pass how it does."""
    network = network.to(memory_format=torch.channels_last)
    mean, optimiser = copy.deepcopy(network), optimiser_for(network, recipe)
    steps, step, start = recipe.epochs * (len(x) // recipe.batch), 0, time.time()
    for epoch in range(recipe.epochs):
        network.train()
        total = 0.0
        for chosen, batch in passes(x, recipe, seed, epoch):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * rate(step, steps, recipe.warmup)
            loss = F.cross_entropy(fast(batch, network), y[chosen], label_smoothing=recipe.smooth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average(mean, network, min(recipe.average, (1 + step) / (10 + step)))
            step += 1
            total += loss.item()
        per_epoch = (time.time() - start) / (epoch + 1)
        log(f"pass {epoch + 1}/{recipe.epochs}, {per_epoch:.1f} s each, "
            f"loss {total * recipe.batch / len(x):.4f}{check(mean)}")
    return mean


def checker(images: np.ndarray, labels: np.ndarray) -> Callable[[nn.Module], str]:
    """Returns what says how a network does on the held-out images (nothing, if there are none)."""
    x, y = torch.from_numpy(normalise(images)), torch.from_numpy(labels)
    return lambda network: f", held out {accuracy(network, x, y):.4f}" if len(y) else ""


def verify(network: nn.Module, model: Path, images: np.ndarray) -> float:
    """The largest difference between the exported file and PyTorch in float32, in logits."""
    with torch.inference_mode():
        x = torch.from_numpy(normalise(images))
        expected = torch.cat([network.eval()(part) for part in x.split(500)]).numpy()
    difference = float(np.abs(measure.logits(model, images) - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"{model} differs from PyTorch by {difference}")
    return difference


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the four idx files")
    parser.add_argument("--out", type=Path, help="where model.onnx and report.json go (default: beside this file)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=5000, help="training images kept back for choices")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--no-test", action="store_true", help="leave the test images alone: for trying recipes")
    parser.add_argument("--quick", action="store_true", help="two passes over 6,000 images, no test: does it run?")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.no_test = 2, True
    args.out = args.out or (HERE / ".train" if args.quick else HERE)
    return args


def main() -> None:
    args, start = arguments(), time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    images, labels = load(args.data, "train")
    kept, held = split(labels, args.held_out, args.seed)
    kept = kept[:6000] if args.quick else kept
    x, y = torch.from_numpy(normalise(images[kept])), torch.from_numpy(labels[kept])

    torch.manual_seed(args.seed)
    recipe = replace(Recipe(), epochs=args.epochs)
    network = fit(net.served(), x, y, recipe, args.seed, checker(images[held], labels[held]))

    model = args.out / "model.onnx"
    net.export(network, model)
    report = {"difference_from_torch": verify(network, model, images[:5000])}
    if len(held):
        report["held_out"] = measure.answers(model, images[held], labels[held])
    if not args.no_test:
        report["test"] = measure.answers(model, *load(args.data, "t10k"))
    report["cost"] = measure.cost(model)
    report["seconds"] = round(time.time() - start)
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    for part in "held_out", "test":
        if part in report:
            log(f"{part}: {100 * report[part]['accuracy']:.2f} % of {report[part]['images']}")
    log(f"wrote {model} and report.json; cost {report['cost']}")


if __name__ == "__main__":
    main()
