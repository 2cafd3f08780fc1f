"""Fashion-MNIST from its idx files: reading, splitting, normalising, augmenting.

Nothing about networks or training belongs here.
"""

import gzip
from pathlib import Path

import numpy as np
import torch

# Where Debian's package dataset-fashion-mnist installs the four files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

LABELS = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]

# Mean and standard deviation of the 60,000 training images, of pixel / 255.
# The service reads the same two numbers from model.toml.
MEAN, STD = 0.2860, 0.3530


def read_idx(path: Path) -> np.ndarray:
    """Reads one gzipped idx file of unsigned bytes (http://yann.lecun.com/exdb/mnist/)."""
    with gzip.open(path, "rb") as file:
        raw = file.read()
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Loads `part` ("train" or "t10k"): images uint8 [n, 28, 28] and labels int64 [n]."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise ValueError(f"{folder}: {part} has images {images.shape} and labels {labels.shape}")
    return images, labels


def normalise(images: np.ndarray) -> np.ndarray:
    """Turns uint8 [n, 28, 28] into the network's input, float32 [n, 1, 28, 28]."""
    return ((images.astype(np.float32) / 255.0 - MEAN) / STD)[:, None]


def split(labels: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns shuffled indices for training and for hold-out, the latter with equal classes."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank_in_class = np.empty(len(labels), np.int64)
    for c in range(len(LABELS)):
        members = order[labels[order] == c]
        rank_in_class[members] = np.arange(len(members))
    out = rank_in_class[order] < held_out // len(LABELS)
    return order[~out], order[out]


def augment(x: torch.Tensor, gen: torch.Generator, shift: int, erase: float) -> torch.Tensor:
    """Flips, shifts and partly erases each image of a batch [n, 1, 28, 28] on its own.

    `shift` is the largest move in pixels along each axis, `erase` the chance that a
    rectangle of 2 to 40 % of the area is filled with noise (Zhong et al., 2017).
    """
    n, _, h, w = x.shape
    flip = torch.rand(n, 1, generator=gen) < 0.5
    dy = torch.randint(-shift, shift + 1, (n, 1), generator=gen)
    dx = torch.randint(-shift, shift + 1, (n, 1), generator=gen)
    rows, cols = torch.arange(h)[None] + dy, torch.arange(w)[None] + dx
    cols = torch.where(flip, w - 1 - cols, cols)
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((cols >= 0) & (cols < w))[:, None, :]
    index = rows.clamp(0, h - 1)[:, :, None] * w + cols.clamp(0, w - 1)[:, None, :]
    moved = x.reshape(n, h * w).gather(1, index.reshape(n, h * w)).reshape(n, h, w)
    moved = torch.where(inside, moved, torch.tensor(-MEAN / STD))  # what moves in is black

    area = torch.empty(n, 1).uniform_(0.02, 0.4, generator=gen) * h * w
    aspect = torch.exp(torch.empty(n, 1).uniform_(-1.2, 1.2, generator=gen))
    eh, ew = (area * aspect).sqrt().round().clamp(max=h), (area / aspect).sqrt().round().clamp(max=w)
    top = (torch.rand(n, 1, generator=gen) * (h - eh + 1)).floor()
    left = (torch.rand(n, 1, generator=gen) * (w - ew + 1)).floor()
    r, c = torch.arange(h)[None], torch.arange(w)[None]
    hole = ((r >= top) & (r < top + eh))[:, :, None] & ((c >= left) & (c < left + ew))[:, None, :]
    hole &= (torch.rand(n, 1, 1, generator=gen) < erase)
    noise = (torch.rand(n, h, w, generator=gen) - MEAN) / STD
    return torch.where(hole, noise, moved)[:, None]
