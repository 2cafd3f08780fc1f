"""Trains the Fashion-MNIST model that is served, and exports it to ONNX.

    python models/fashion-mnist/train.py              # everything; writes model.onnx and report.json
    python models/fashion-mnist/train.py --quick      # a smoke run of a few minutes, into a scratch folder

Steps: hold out part of the training images; train on the rest; fit one temperature on the
held-out images and divide the last layer by it; fold, export with the mean over each picture and
its mirror image, compare ONNX Runtime with PyTorch; quantise; measure accuracy on the held-out
images, then once on the test images; measure cost. The test images are read in the last step only.

With `--teachers` the student's architecture and a wider one are trained first, and the student
learns from their answers too. Networks trained on labels are kept in `.train/`, so an ended run
goes on from there.
"""

import argparse
import copy
import hashlib
import json
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
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
sys.path.append(str(HERE.parent))
from quantise import quantise  # noqa: E402, shared by the models

# Training images whose activations say what range each tensor has.
CALIBRATION = 1024


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    epochs: int
    lr: float = 0.1
    batch: int = 128
    decay: float = 5e-4
    warmup: float = 0.15  # part of the steps in which the rate rises
    shift: int = 2
    erase: float = 0.3
    smooth: float = 0.1
    average: float = 0.999  # of the weights, per step
    views: int = 0  # augmented passes that are repeated in turn; 0: every pass is new
    soft: float = 0.0  # weight of the teachers' answers in the loss


# Says how a network does on the held-out images.
Check = Callable[[nn.Module], str]


LABELLED = Recipe(epochs=90)  # teachers, and the student where there are none
TAUGHT = replace(LABELLED, views=5, soft=0.9)


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


def passes(x: torch.Tensor, recipe: Recipe, seed: int, view: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One pass over `x`: batches of (indices, augmented images), the same for the same view."""
    gen = torch.Generator().manual_seed(seed * 100_003 + view)
    order = torch.randperm(len(x), generator=gen)
    for chosen in order.split(recipe.batch):
        if len(chosen) == recipe.batch:
            yield chosen, augment(x[chosen], gen, recipe.shift, recipe.erase)


@torch.inference_mode()
def answers_of(teacher: nn.Module, x: torch.Tensor, recipe: Recipe, seed: int) -> torch.Tensor:
    """The teacher's scores for each view and image, over the picture and its mirror image: [views, n, 10]."""
    answers = torch.zeros(recipe.views, len(x), 10)
    teacher.eval()
    for view in range(recipe.views):
        for chosen, batch in passes(x, recipe, seed, view):
            answers[view, chosen] = fast(batch, net.Mirrored(teacher)).softmax(1)
        log(f"asked {view + 1} of {recipe.views} times")
    return answers


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


def loss_of(z: torch.Tensor, y: torch.Tensor, soft: torch.Tensor | None, recipe: Recipe) -> torch.Tensor:
    """Cross entropy with smoothed labels, mixed with that to the teachers' scores."""
    hard = F.cross_entropy(z, y, label_smoothing=recipe.smooth)
    if soft is None:
        return hard
    return (1 - recipe.soft) * hard + recipe.soft * F.cross_entropy(z, soft)


def fit(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, seed: int,
    answers: torch.Tensor | None = None, check: Check = lambda _: "", name: str = "",
) -> nn.Module:
    """Trains and returns the averaged network."""
    network = network.to(memory_format=torch.channels_last)
    mean = copy.deepcopy(network)
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    steps, step, start = recipe.epochs * (len(x) // recipe.batch), 0, time.time()
    for epoch in range(recipe.epochs):
        network.train()
        view, total = epoch % recipe.views if recipe.views else epoch, 0.0
        for chosen, batch in passes(x, recipe, seed, view):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * rate(step, steps, recipe.warmup)
            soft = None if answers is None else answers[view, chosen]
            loss = loss_of(fast(batch, network), y[chosen], soft, recipe)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average(mean, network, min(recipe.average, (1 + step) / (10 + step)))
            step += 1
            total += loss.item()
        per_epoch = (time.time() - start) / (epoch + 1)
        log(f"{name}epoch {epoch + 1}/{recipe.epochs}, {per_epoch:.1f} s each, "
            f"loss {total * recipe.batch / len(x):.4f} {check(mean)}")
    return mean


def training_data(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Normalised training tensors, then the held-out images and labels as they are in the file."""
    images, labels = load(args.data, "train")
    kept, held = split(labels, args.held_out, args.seed)
    if args.quick:
        kept = kept[:6000]
    x, y = torch.from_numpy(normalise(images[kept])), torch.from_numpy(labels[kept])
    return x, y, images[held], labels[held]


def checker(images: np.ndarray, labels: np.ndarray) -> Check:
    """Returns what says how a network does on the held-out images (nothing, if there are none)."""
    x, y = torch.from_numpy(normalise(images)), torch.from_numpy(labels)
    return lambda network: f"held out {accuracy(network, x, y):.4f}" if len(y) else ""


def labelled(args: argparse.Namespace, build: Callable[[], net.Net], x: torch.Tensor, y: torch.Tensor, check: Check) -> net.Net:
    """Trains a network on labels alone, or reads it if an earlier run finished it."""
    recipe = replace(LABELLED, epochs=args.epochs)
    torch.manual_seed(args.seed)
    network = build()
    key = json.dumps([asdict(recipe), str(network), args.seed, len(x)])
    file = args.work / f"labelled-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        network = network.to(memory_format=torch.channels_last)
        log(f"{build.__name__}: read from {file.name}")
    else:
        network = fit(network, x, y, recipe, args.seed, check=check, name=f"{build.__name__}, ")
        torch.save(network.state_dict(), file)
    log(f"{build.__name__}: {check(network)}")
    return network


def teach(args: argparse.Namespace, number: int, student: Recipe) -> torch.Tensor:
    """Trains teacher `number` on one thread, and asks it."""
    torch.set_num_threads(1)
    x, y, *held = training_data(args)
    return answers_of(labelled(args, net.TEACHERS[number], x, y, checker(*held)), x, student, args.seed)


def ask_teachers(args: argparse.Namespace, student: Recipe) -> torch.Tensor:
    """Trains the teachers side by side, a process and a thread each (two threads in one
    process wait for each other); returns their mean scores, [views, n, 10]."""
    workers = min(len(net.TEACHERS), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(teach, args, number, student) for number in range(len(net.TEACHERS))]
        return sum(job.result() for job in jobs) / len(jobs)


def distilled(args: argparse.Namespace, x: torch.Tensor, y: torch.Tensor, check: Check) -> net.Net:
    """Trains the student on the teachers' answers and the labels."""
    recipe = replace(TAUGHT, epochs=args.epochs, views=min(TAUGHT.views, args.epochs))
    answers = ask_teachers(args, recipe)
    torch.manual_seed(args.seed)
    return fit(net.student(), x, y, recipe, args.seed, answers, check, "distilled student, ")


@torch.no_grad()
def calibrate(network: net.Net, images: np.ndarray, labels: np.ndarray) -> float:
    """Divides the last layer by the temperature that makes the held-out labels likeliest (Guo et
    al., 2017), so that scores say how often they are right; returns it."""
    x, y = torch.from_numpy(normalise(images)), torch.from_numpy(labels)
    asked = net.Mirrored(network.eval())
    z = torch.cat([asked(part) for part in x.split(500)])
    best = min((t / 100 for t in range(30, 200)), key=lambda t: F.cross_entropy(z / t, y).item())
    network.head[-1].weight /= best
    network.head[-1].bias /= best
    return best


def verify(network: nn.Module, model: Path, images: np.ndarray) -> float:
    """The largest difference between the exported file and PyTorch in float32, in logits."""
    with torch.inference_mode():
        x = torch.from_numpy(normalise(images))
        asked = net.Mirrored(network.eval())
        expected = torch.cat([asked(part) for part in x.split(500)]).numpy()
    difference = float(np.abs(measure.logits(model, images) - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"{model} differs from PyTorch by {difference}")
    return difference


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the four idx files")
    parser.add_argument("--out", type=Path, help="where model.onnx and report.json go (default: beside this file)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=2000, help="training images kept back for choices")
    parser.add_argument("--epochs", type=int, default=LABELLED.epochs)
    parser.add_argument("--teachers", action="store_true", help="train two teachers first and distil the student from them")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--no-test", action="store_true", help="leave the test images alone: for trying recipes")
    parser.add_argument("--quick", action="store_true", help="one pass over 6,000 images, no test: does it run?")
    args = parser.parse_args()
    args.work = HERE / ".train"
    if args.quick:
        args.epochs, args.no_test = 2, True
    args.out = args.out or (args.work / "quick" if args.quick else HERE)
    return args


def main() -> None:
    args, start = arguments(), time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(exist_ok=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    x, y, images, labels = training_data(args)
    check = checker(images, labels)
    network = distilled(args, x, y, check) if args.teachers else labelled(args, net.student, x, y, check)
    report: dict = {"temperature": calibrate(network, images, labels)}

    plain, served = args.work / "float32.onnx", args.out / "model.onnx"
    net.export(net.Mirrored(network), plain)
    report["difference_from_torch"] = verify(network, plain, load(args.data, "train")[0][:5000])
    quantise(plain, served, x[:CALIBRATION].numpy().reshape(-1, 64, 1, 28, 28))
    for name, model in ("float32", plain), ("int8", served):
        report[name] = {"held_out": measure.answers(model, images, labels)}
        if not args.no_test:
            report[name]["test"] = measure.answers(model, *load(args.data, "t10k"))
        report[name]["cost"] = measure.cost(model)
        accuracies = {part: report[name][part]["accuracy"] for part in report[name] if part != "cost"}
        log(f"{name}: {accuracies}, cost {report[name]['cost']}")
    report["seconds"] = round(time.time() - start)
    (args.out / "report.json").write_text(json.dumps(report) + "\n")
    log(f"wrote {served} and report.json")


if __name__ == "__main__":
    main()
