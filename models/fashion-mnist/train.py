"""Trains the Fashion-MNIST model that is served, and exports it to ONNX.

    python models/fashion-mnist/train.py              # everything; writes model.onnx and report.json
    python models/fashion-mnist/train.py --quick      # a smoke run of a few minutes, into a scratch folder

Steps: hold out part of the training images; train larger teachers; write down what they
answer on a number of augmented passes over the training images; train the student on those
answers and on the labels; fold, export, compare ONNX Runtime with PyTorch; measure accuracy
on the held-out images, then once on the test images; measure cost. The test images are read
in the last step only. Finished teachers are kept in `.train/`, so an ended run goes on from there.
"""

import argparse
import copy
import hashlib
import json
import math
import time
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
    erase: float = 0.5
    smooth: float = 0.1
    average: float = 0.999  # of the weights, per step
    views: int = 0  # augmented passes that are repeated in turn; 0: every pass is new
    soft: float = 0.0  # weight of the teachers' answers in the loss
    temperature: float = 2.0


TEACHER = Recipe(epochs=20)
STUDENT = Recipe(epochs=60, views=10, soft=0.9)


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
def write_answers(teachers: list[nn.Module], x: torch.Tensor, recipe: Recipe, seed: int) -> torch.Tensor:
    """The teachers' mean softened answers for each view and image: float16 [views, n, 10]."""
    answers = torch.zeros(recipe.views, len(x), 10, dtype=torch.float16)
    for view in range(recipe.views):
        for chosen, batch in passes(x, recipe, seed, view):
            soft = [F.softmax(fast(batch, t.eval()) / recipe.temperature, 1) for t in teachers]
            answers[view, chosen] = torch.stack(soft).mean(0).half()
        log(f"teachers' answers: view {view + 1} of {recipe.views}")
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
    learnt = F.kl_div(F.log_softmax(z / t, 1), soft.float(), reduction="batchmean") * t * t
    return (1 - recipe.soft) * hard + recipe.soft * learnt


def fit(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, seed: int,
    answers: torch.Tensor | None = None, check: Callable[[nn.Module], str] = lambda _: "",
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
        log(f"epoch {epoch + 1}/{recipe.epochs}, {per_epoch:.1f} s each, "
            f"loss {total * recipe.batch / len(x):.4f} {check(mean)}")
    return mean


def teachers_for(args: argparse.Namespace, recipe: Recipe, x: torch.Tensor, y: torch.Tensor, check) -> list[nn.Module]:
    """Trains the teachers, or reads those that an earlier run with the same recipe finished."""
    teachers = []
    for number in range(args.teachers):
        seed = args.seed + 1 + number
        torch.manual_seed(seed)
        network = net.teacher()
        key = json.dumps([asdict(recipe), str(network), seed, len(x)])
        file = args.work / f"teacher-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"
        if file.exists():
            network.load_state_dict(torch.load(file, weights_only=True))
            network = network.to(memory_format=torch.channels_last)
            log(f"teacher {number + 1}: read from {file.name}")
        else:
            network = fit(network, x, y, recipe, seed, check=check)
            torch.save(network.state_dict(), file)
        teachers.append(network)
        log(f"teacher {number + 1} of {args.teachers}: {check(network)}")
    return teachers


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
    parser.add_argument("--teachers", type=int, default=1, help="0 trains the student on labels only")
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
    images, labels = load(args.data, "train")
    kept, held = split(labels, args.held_out, args.seed)
    if args.quick:
        kept = kept[:6000]
    x, y = torch.from_numpy(normalise(images[kept])), torch.from_numpy(labels[kept])
    hx, hy = torch.from_numpy(normalise(images[held])), torch.from_numpy(labels[held])

    def check(network: nn.Module) -> str:
        return f"held out {accuracy(network, hx, hy):.4f}" if len(held) else ""

    recipe = replace(STUDENT, epochs=args.epochs)
    answers = None
    if args.teachers:
        teachers = teachers_for(args, replace(TEACHER, epochs=args.teacher_epochs), x, y, check)
        recipe = replace(recipe, views=min(recipe.views, recipe.epochs))
        answers = write_answers(teachers, x, recipe, args.seed)
    torch.manual_seed(args.seed)
    network = fit(net.student(), x, y, recipe, args.seed, answers, check)

    model = args.out / "model.onnx"
    net.export(network, model)
    report = {"difference_from_torch": verify(network, model, images[held])}
    report["held_out"] = measure.answers(model, images[held], labels[held])
    if not args.no_test:
        report["test"] = measure.answers(model, *load(args.data, "t10k"))
    report["cost"] = measure.cost(model)
    report["seconds"] = round(time.time() - start)
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    log(f"wrote {model.name} and report.json: held out {report['held_out']['accuracy']:.4f}, "
        f"test {report.get('test', {}).get('accuracy', 'not read')}, {report['cost']}")


if __name__ == "__main__":
    main()
