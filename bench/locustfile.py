"""The owner's scenario for Locust: people open the page and send a picture, again and again.

    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless --users 100 --spawn-rate 10 --run-time 60s

PAUSE_SECONDS (`MIN-MAX`, default `1-2.5`) is how long a user pauses between two actions.
"""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path

from locust import HttpUser, between, task

SAMPLES = Path(__file__).resolve().parent.parent / "models" / "fashion-mnist" / "samples"
# `9-ankle-boot.png` is answered with "Ankle boot": file names are the labels as a file name can have them.
PICTURES = [(path.stem.partition("-")[2], path.read_bytes()) for path in sorted(SAMPLES.glob("*.png"))]
IEND_BYTES = 12
SHORTEST, LONGEST = (float(seconds) for seconds in os.environ.get("PAUSE_SECONDS", "1-2.5").split("-"))


def new_copy(png: bytes) -> bytes:
    """The same picture as other bytes, so that no cache knows it: with a `tEXt` chunk of random content."""
    content = b"tEXtComment\0" + random.randbytes(16).hex().encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:-IEND_BYTES] + chunk + png[-IEND_BYTES:]


def as_file_name(label: str) -> str:
    """A label as the samples' file names have it."""
    return label.lower().replace("/", "-").replace(" ", "-")


class Visitor(HttpUser):
    """Somebody with a picture."""

    wait_time = between(SHORTEST, LONGEST)

    @task
    def open_page(self) -> None:
        """Opens the home page."""
        self.client.get("/")

    @task(3)
    def predict(self) -> None:
        """Sends a picture nobody has sent before, and looks at the answer."""
        name, png = random.choice(PICTURES)
        files = {"image": (f"{name}.png", new_copy(png), "image/png")}
        with self.client.post("/predict", files=files, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {answer.text[:200]}")
            elif as_file_name(answer.json()["output"]["label"]) != name:
                answer.failure(f"expected {name}: {answer.text[:200]}")
