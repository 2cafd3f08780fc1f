"""Measures an exported model with ONNX Runtime: answers on photographs, and cost per photograph.

    python models/clothing/measure.py --data clothing-photos.tar             # the committed model
    python models/clothing/measure.py --data DIR --part test                 # other photographs, DIR/test/<class>/*.jpg
    python models/clothing/measure.py --data clothing-photos.tar --service http://127.0.0.1:8000   # JPEG in, label out
    python models/clothing/measure.py --data clothing-photos.tar --service http://127.0.0.1:8000 --ask fashion-mnist
    python models/clothing/measure.py --data clothing-photos.tar --enlarge photographs   # 1200 x 1600, for bench/run --pictures
    python models/clothing/measure.py --tables models/clothing/report.json   # the card's tables

Nothing here trains or chooses anything.
"""

import argparse
import http.client
import json
import statistics
import time
from pathlib import Path
from typing import Iterator
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from data import LABELS, SIDE, Photo, load, prepared, upright

HERE = Path(__file__).resolve().parent

# Fashion-MNIST's words for the classes both models know; no others are asked for.
SHARED = {
    "dress": {"Dress"}, "longsleeve": {"Pullover"}, "outwear": {"Coat"}, "pants": {"Trouser"}, "shirt": {"Shirt"},
    "shoes": {"Sandal", "Sneaker", "Ankle boot"}, "t-shirt": {"T-shirt/top"},
}


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


def asked(url: str, model: str, photos: list[Photo]) -> Iterator[tuple[Photo, dict]]:
    """Posts each JPEG, and gives the answer with it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    for photo in photos:
        connection.request("POST", f"/predict?model={model}&top_k=10", photo.jpeg, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        answer = json.load(response)
        if response.status != 200:
            raise SystemExit(f"{photo.name}: {response.status}: {answer}")
        yield photo, answer


def through_service(url: str, photos: list[Photo]) -> dict:
    """The same as a client sees it: JPEG in, scores and label out."""
    scores = np.zeros((len(photos), len(LABELS)))
    for row, (photo, answer) in zip(scores, asked(url, "clothing", photos)):
        for prediction in answer["output"]["top"]:
            row[prediction["index"]] = prediction["score"]
        if LABELS[row.argmax()] != answer["output"]["label"]:
            raise SystemExit(f"{photo.name}: the label is not the highest score's: {answer}")
    return summary(scores, photos)


def shared_classes(url: str, model: str, photos: list[Photo]) -> dict:
    """How far a model with Fashion-MNIST's words is right on photographs of the classes both know, per class and on average."""
    known = [photo for photo in photos if LABELS[photo.label] in SHARED]
    right: dict[str, list[bool]] = {name: [] for name in SHARED}
    for photo, answer in asked(url, model, known):
        right[LABELS[photo.label]].append(answer["output"]["label"] in SHARED[LABELS[photo.label]])
    recall = {name: round(float(np.mean(hits)), 4) for name, hits in right.items()}
    accuracy = float(np.mean([hit for hits in right.values() for hit in hits]))
    return {"photographs": len(known), "accuracy": round(accuracy, 4), "mean_recall": round(float(np.mean(list(recall.values()))), 4), "recall": recall}


def enlarge(photos: list[Photo], folder: Path) -> None:
    """Writes each photograph as a phone's would be, JPEG of 1200 x 1600 or 1600 x 1200, cropped to that shape."""
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        image = upright(photo.jpeg)
        size = (1200, 1600) if image.height >= image.width else (1600, 1200)
        ImageOps.fit(image, size, Image.LANCZOS).save(folder / photo.name, quality=90)


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
    parser.add_argument("--ask", metavar="MODEL", default="clothing", help="with --service: the model to ask")
    parser.add_argument("--enlarge", type=Path, metavar="FOLDER", help="write the photographs as large JPEGs and end")
    parser.add_argument("--tables", type=Path, help="print the tables of this report.json and end")
    args = parser.parse_args()
    if args.tables:
        print(tables(json.loads(args.tables.read_text())["int8"]["validation"]))
        return
    photos = load(args.data, args.part) if args.data else []
    if (args.service or args.enlarge) and not photos:
        parser.error("--service and --enlarge need --data")
    if args.enlarge:
        enlarge(photos, args.enlarge)
        return
    if args.service:
        asked_for = through_service(args.service, photos) if args.ask == "clothing" else shared_classes(args.service, args.ask, photos)
        print(json.dumps(asked_for))
        return
    result = {"cost": cost(args.model)}
    if args.data:
        result[args.part] = answers(args.model, photos)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
