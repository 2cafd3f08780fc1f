"""Trains the Fashion-MNIST model that is served, and exports it to ONNX.

    python models/fashion-mnist/train.py              # everything; writes model.onnx and report.json
    python models/fashion-mnist/train.py --quick      # a smoke run of a few minutes, into a scratch folder

Steps: hold out part of the training images; train on the rest; fold, export, compare ONNX
Runtime with PyTorch; measure accuracy on the held-out images, then once on the test images;
measure cost. The test images are read in the last step only.

With `--teachers N` larger networks are trained first, and the student learns from their answers
on a number of augmented passes too. The served model was trained without. Finished teachers are
kept in `.train/`, so an ended run goes on from there.
"""

import argparse
import copy
import hashlib
import json
import math
import multiprocessing
import os
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
    temperature: float = 2.0


TEACHER = Recipe(epochs=20, smooth=0.05)
STUDENT = Recipe(epochs=30)
TAUGHT = replace(STUDENT, views=10, soft=0.9)


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
    """The teacher's logits for each view and image: float16 [views, n, 10]."""
    answers = torch.zeros(recipe.views, len(x), 10, dtype=torch.float16)
    teacher.eval()
    for view in range(recipe.views):
        for chosen, batch in passes(x, recipe, seed, view):
            answers[view, chosen] = fast(batch, teacher).half()
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
    """Cross entropy with smoothed labels, mixed with the divergence from the teachers' answers."""
    hard = F.cross_entropy(z, y, label_smoothing=recipe.smooth)
    if soft is None:
        return hard
    t = recipe.temperature
    learnt = F.kl_div(F.log_softmax(z / t, 1), soft, reduction="batchmean") * t * t
    return (1 - recipe.soft) * hard + recipe.soft * learnt


def fit(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, seed: int,
    answers: torch.Tensor | None = None, check: Callable[[nn.Module], str] = lambda _: "", name: str = "",
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


def checker(images: np.ndarray, labels: np.ndarray) -> Callable[[nn.Module], str]:
    """Returns what says how a network does on the held-out images (nothing, if there are none)."""
    x, y = torch.from_numpy(normalise(images)), torch.from_numpy(labels)
    return lambda network: f"held out {accuracy(network, x, y):.4f}" if len(y) else ""


def teach(args: argparse.Namespace, number: int, recipe: Recipe, student: Recipe) -> torch.Tensor:
    """Trains teacher `number` on one thread, or reads it if an earlier run finished it; asks it."""
    torch.set_num_threads(1)
    x, y, *held = training_data(args)
    check, seed = checker(*held), args.seed + number
    torch.manual_seed(seed)
    network = net.teacher()
    key = json.dumps([asdict(recipe), str(network), seed, len(x)])
    file = args.work / f"teacher-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        network = network.to(memory_format=torch.channels_last)
        log(f"teacher {number}: read from {file.name}")
    else:
        network = fit(network, x, y, recipe, seed, check=check, name=f"teacher {number}, ")
        torch.save(network.state_dict(), file)
    log(f"teacher {number}: {check(network)}")
    return answers_of(network, x, student, args.seed)


def ask_teachers(args: argparse.Namespace, recipe: Recipe, student: Recipe) -> torch.Tensor:
    """Trains the teachers side by side, a process and a thread each (two threads in one
    process wait for each other); returns their mean softened answers, [views, n, 10]."""
    workers = min(args.teachers, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(teach, args, n + 1, recipe, student) for n in range(args.teachers)]
        return sum(F.softmax(job.result().float() / student.temperature, -1) for job in jobs) / len(jobs)


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
    parser.add_argument("--epochs", type=int, default=STUDENT.epochs, help="of the student")
    parser.add_argument("--teacher-epochs", type=int, default=TEACHER.epochs)
    parser.add_argument("--teachers", type=int, default=0, help="0 trains the student on labels only")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--no-test", action="store_true", help="leave the test images alone: for trying recipes")
    parser.add_argument("--quick", action="store_true", help="one pass over 6,000 images, no test: does it run?")
    args = parser.parse_args()
    args.work = HERE / ".train"
    if args.quick:
        args.epochs, args.teacher_epochs, args.no_test = 2, 1, True
    args.out = args.out or (args.work / "quick" if args.quick else HERE)
    return args


def main() -> None:
    args, start = arguments(), time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(exist_ok=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    x, y, images, labels = training_data(args)
    recipe = TAUGHT if args.teachers else STUDENT
    recipe = replace(recipe, epochs=args.epochs, views=min(recipe.views, args.epochs))
    answers = None
    if args.teachers:
        answers = ask_teachers(args, replace(TEACHER, epochs=args.teacher_epochs), recipe)
    torch.manual_seed(args.seed)
    network = fit(net.student(), x, y, recipe, args.seed, answers, checker(images, labels))

    model = args.out / "model.onnx"
    net.export(network, model)
    report = {"difference_from_torch": verify(network, model, load(args.data, "train")[0][:5000])}
    if len(labels):
        report["held_out"] = measure.answers(model, images, labels)
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
