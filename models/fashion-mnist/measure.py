"""Measures an exported model with ONNX Runtime: answers on the test set, and cost per image.

    python models/fashion-mnist/measure.py            # the committed model, both
    python models/fashion-mnist/measure.py --cost     # cost only
    python models/fashion-mnist/measure.py --tables models/fashion-mnist/report.json
    python models/fashion-mnist/measure.py --service http://127.0.0.1:8000   # PNG in, label out, over HTTP

Nothing here trains or chooses anything.
"""

import argparse
import http.client
import json
import statistics
import struct
import tempfile
import time
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime

from data import DEBIAN_FOLDER, LABELS, load, normalise

HERE = Path(__file__).resolve().parent
BATCH = 16


def session(path: Path) -> onnxruntime.InferenceSession:
    """Opens a model as the service does: one thread, no spinning, every optimisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def logits(model: Path, images: np.ndarray) -> np.ndarray:
    """Runs uint8 images through the model, a batch at a time; returns float32 [n, 10]."""
    run, x = session(model), normalise(images)
    parts = [run.run(["logits"], {"image": x[i:i + BATCH]})[0] for i in range(0, len(x), BATCH)]
    return np.concatenate(parts)


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of softmaxed `scores` in equal-width bins (Guo et al., 2017)."""
    confidence, right = scores.max(1), scores.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = (
        abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean()
        for b in range(bins) if (which == b).any()
    )
    return float(sum(gaps))


def answers(model: Path, images: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy, calibration, precision and recall per class, confusion (rows: truth)."""
    z = logits(model, images).astype(np.float64)
    scores = np.exp(z - z.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (labels, scores.argmax(1)), 1)
    hits = np.diag(confusion)
    return {
        "images": len(labels),
        "accuracy": float(hits.sum() / len(labels)),
        "calibration_error": round(calibration_error(scores, labels), 4),
        "precision": dict(zip(LABELS, (hits / confusion.sum(0).clip(1)).round(4).tolist())),
        "recall": dict(zip(LABELS, (hits / confusion.sum(1)).round(4).tolist())),
        "confusion": confusion.tolist(),
    }


def cost(model: Path, rounds: int = 300) -> dict:
    """Microseconds per image in batches of 16 on one thread, beside the reference CNN.

    The two alternate within one run, so that whatever else the machine does meets both.
    """
    from net import export, reference

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "reference.onnx"
        export(reference(), plain)
        sessions = {"model": session(model), "reference": session(plain)}
    x = np.random.default_rng(0).standard_normal((BATCH, 1, 28, 28)).astype(np.float32)
    took: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, run in sessions.items():
            run.run(None, {"image": x})  # warms the caches
            start = time.perf_counter()
            run.run(None, {"image": x})
            took[name].append((time.perf_counter() - start) / BATCH * 1e6)
    median = {name: statistics.median(values) for name, values in took.items()}
    return {
        "model_us": round(median["model"], 1),
        "reference_us": round(median["reference"], 1),
        "ratio": round(median["model"] / median["reference"], 3),
        "model_us_min": round(min(took["model"]), 1),
        "reference_us_min": round(min(took["reference"]), 1),
        "bytes": model.stat().st_size,
    }


def png(image: np.ndarray) -> bytes:
    """Encodes grey pixels, uint8 [height, width], as a PNG."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def through_service(url: str, images: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy as a client sees it: each image posted as a PNG, the label read from the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    right = 0
    for image, label in zip(images, labels):
        connection.request("POST", "/predict?model=fashion-mnist", png(image), {"Content-Type": "image/png"})
        response = connection.getresponse()
        answer = json.load(response)
        if response.status != 200:
            raise SystemExit(f"{response.status}: {answer}")
        right += answer["output"]["label"] == LABELS[label]
    return {"images": len(labels), "accuracy": right / len(labels)}


def tables(test: dict) -> str:
    """The model card's two tables, as Markdown."""
    short = [label.split("/")[0].replace("Ankle boot", "Boot") for label in LABELS]
    lines = ["| Class | Precision | Recall |", "|---|---:|---:|"]
    lines += [f"| {c} | {100 * test['precision'][c]:.1f} % | {100 * test['recall'][c]:.1f} % |" for c in LABELS]
    lines += ["", "| truth \\ answer | " + " | ".join(short) + " |", "|---|" + "---:|" * len(short)]
    lines += [f"| {c} | " + " | ".join(map(str, row)) + " |" for c, row in zip(LABELS, test["confusion"])]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the idx files")
    parser.add_argument("--model", type=Path, default=HERE / "model.onnx")
    parser.add_argument("--cost", action="store_true", help="skip the test set")
    parser.add_argument("--service", metavar="URL", help="ask a running gateway for the test images and end")
    parser.add_argument("--tables", type=Path, help="print the tables of this report.json and end")
    args = parser.parse_args()
    if args.tables:
        print(tables(json.loads(args.tables.read_text())["int8"]["test"]))
        return
    if args.service:
        print(json.dumps(through_service(args.service, *load(args.data, "t10k"))))
        return
    result = {"cost": cost(args.model)}
    if not args.cost:
        result["test"] = answers(args.model, *load(args.data, "t10k"))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
