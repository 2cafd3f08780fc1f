"""Measures an exported model with ONNX Runtime: answers on photographs, and cost per photograph.

    python models/clothing/measure.py --data clothing-photos.tar             # the committed model
    python models/clothing/measure.py --data DIR --part test                 # other photographs, DIR/test/<class>/*.jpg
    python models/clothing/measure.py --data clothing-photos.tar --service http://127.0.0.1:8000   # JPEG in, label out
    python models/clothing/measure.py --tables models/clothing/report.json   # the card's tables

Nothing here trains or chooses anything.
"""

import argparse
import http.client
import json
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime

from data import LABELS, SIDE, Photo, load, prepared

HERE = Path(__file__).resolve().parent


def session(path: Path) -> onnxruntime.InferenceSession:
    """Opens a model as the service does: one thread, no spinning, every optimisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def logits(model: Path, photos: list[Photo]) -> np.ndarray:
    """Runs photographs through the model, eight at a time; returns float32 [n, classes]."""
    run = session(model)
    batches = (photos[i:i + 8] for i in range(0, len(photos), 8))
    return np.concatenate([run.run(["logits"], {"image": prepared(batch)})[0] for batch in batches])


def softmax(z: np.ndarray) -> np.ndarray:
    """Scores that sum to one, in double precision."""
    scores = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in equal-width bins (Guo et al., 2017)."""
    confidence, right = scores.max(1), scores.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = (
        abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean()
        for b in range(bins) if (which == b).any()
    )
    return float(sum(gaps))


def summary(scores: np.ndarray, photos: list[Photo]) -> dict:
    """Accuracy, calibration, precision and recall per class, confusion (rows: truth)."""
    labels = np.array([photo.label for photo in photos])
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (labels, scores.argmax(1)), 1)
    hits = np.diag(confusion)
    return {
        "photographs": len(labels),
        "accuracy": round(float(hits.sum() / len(labels)), 4),
        "calibration_error": round(calibration_error(scores, labels), 4),
        "precision": dict(zip(LABELS, (hits / confusion.sum(0).clip(1)).round(4).tolist())),
        "recall": dict(zip(LABELS, (hits / confusion.sum(1).clip(1)).round(4).tolist())),
        "confusion": confusion.tolist(),
    }


def answers(model: Path, photos: list[Photo]) -> dict:
    """How a model file does on photographs."""
    return summary(softmax(logits(model, photos)), photos)


def cost(model: Path, rounds: int = 30) -> dict:
    """Milliseconds per photograph for inference on one thread, alone and in batches of eight; bytes of the file."""
    run, result = session(model), {}
    for batch in 1, 8:
        x = np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)
        took = []
        for _ in range(rounds):
            start = time.perf_counter()
            run.run(None, {"image": x})
            took.append((time.perf_counter() - start) / batch * 1e3)
        result[f"batch_{batch}_ms"] = round(statistics.median(took[1:]), 2)
        result[f"batch_{batch}_ms_min"] = round(min(took), 2)
    return {**result, "bytes": model.stat().st_size}


def through_service(url: str, photos: list[Photo]) -> dict:
    """The same as a client sees it: each JPEG posted, scores and label read from the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    scores = np.zeros((len(photos), len(LABELS)))
    for photo, row in zip(photos, scores):
        connection.request("POST", "/predict?model=clothing&top_k=10", photo.jpeg, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        answer = json.load(response)
        if response.status != 200:
            raise SystemExit(f"{photo.name}: {response.status}: {answer}")
        for prediction in answer["output"]["predictions"]:
            row[LABELS.index(prediction["label"])] = prediction["score"]
        if LABELS[row.argmax()] != answer["output"]["label"]:
            raise SystemExit(f"{photo.name}: the label is not the highest score's: {answer}")
    return summary(scores, photos)


def tables(result: dict) -> str:
    """The model card's two tables, as Markdown."""
    lines = ["| Class | Photographs | Precision | Recall |", "|---|---:|---:|---:|"]
    lines += [
        f"| {c} | {sum(row)} | {100 * result['precision'][c]:.1f} % | {100 * result['recall'][c]:.1f} % |"
        for c, row in zip(LABELS, result["confusion"])
    ]
    lines += ["", "| truth \\ answer | " + " | ".join(LABELS) + " |", "|---|" + "---:|" * len(LABELS)]
    lines += [f"| {c} | " + " | ".join(map(str, row)) + " |" for c, row in zip(LABELS, result["confusion"])]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="clothing-photos.tar, or a folder of <part>/<class>/*.jpg")
    parser.add_argument("--part", default="validation")
    parser.add_argument("--model", type=Path, default=HERE / "model.onnx")
    parser.add_argument("--service", metavar="URL", help="ask a running gateway for the photographs and end")
    parser.add_argument("--tables", type=Path, help="print the tables of this report.json and end")
    args = parser.parse_args()
    if args.tables:
        print(tables(json.loads(args.tables.read_text())["int8"]["validation"]))
        return
    if args.service or args.data:
        photos = load(args.data or parser.error("--service needs --data"), args.part)
    if args.service:
        print(json.dumps(through_service(args.service, photos)))
        return
    result = {"cost": cost(args.model)}
    if args.data:
        result[args.part] = answers(args.model, photos)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
