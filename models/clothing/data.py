"""Photographs of clothes: reading, turning upright, cropping, normalising, augmenting.

Nothing about networks or training belongs here.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Iterator

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LABELS = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]

# What the pretrained network expects: (pixel - 127) / 128. model.toml has the same in parts of 255.
MEAN, STD = 127.0, 128.0
SIDE = 256


@dataclass(frozen=True)
class Photo:
    """One photograph as its file holds it."""

    name: str
    jpeg: bytes
    label: int


def files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every file of a tar archive or of a folder, by its path inside."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            yield PurePosixPath(path.relative_to(source).as_posix()), path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.isfile():
                yield PurePosixPath(member.name), archive.extractfile(member).read()


def load(source: Path, part: str) -> list[Photo]:
    """The photographs below `part`, `<part>/<class>/<name>.jpg`, ordered by their names."""
    photos = [
        Photo(path.name, content, LABELS.index(path.parts[1]))
        for path, content in files(source)
        if len(path.parts) == 3 and path.parts[0] == part and path.parts[1] in LABELS
        and path.suffix.lower() in (".jpg", ".jpeg")
    ]
    if not photos:
        raise SystemExit(f"{source} has no photographs {part}/<class>/*.jpg")
    return photos


def upright(jpeg: bytes) -> Image.Image:
    """Decodes a photograph and turns it as its EXIF orientation says."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))).convert("RGB")


def covered(image: Image.Image) -> Image.Image:
    """The largest square in the middle, scaled to the network's side: `resize = "cover"`."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((SIDE, SIDE), Image.BILINEAR, box=(left, top, left + side, top + side))


def augmented(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part of the photograph, turned a little, mirrored half the time, in another light."""
    width, height = image.size
    area = min(width, height) ** 2 * rng.uniform(0.5, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    if rng.random() < 0.5:
        centre = (left + w / 2, top + h / 2)
        image = image.rotate(rng.uniform(-15, 15), Image.BILINEAR, center=centre, fillcolor=(127, 127, 127))
    image = image.resize((SIDE, SIDE), Image.BILINEAR, box=(left, top, left + w, top + h))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(rng.uniform(0.7, 1.3))
    return image


def normalise(images: list[Image.Image]) -> np.ndarray:
    """Square pictures as the network's input, float32 [n, 3, side, side]."""
    pixels = np.stack([np.asarray(image, np.float32) for image in images])
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(0, 3, 1, 2))


def prepared(photos: list[Photo]) -> np.ndarray:
    """Photographs as the service prepares them, float32 [n, 3, side, side]."""
    return normalise([covered(upright(photo.jpeg)) for photo in photos])
