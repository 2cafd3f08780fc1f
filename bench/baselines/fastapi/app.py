"""The usual service: FastAPI on uvicorn with a preloaded ONNX model and an answer cache in each process. No queue.

    BASELINE_MODEL=models/fashion-mnist uvicorn --app-dir bench/baselines/fastapi app:app --workers 2 --no-access-log

Inference runs in uvicorn's thread pool, as it does for an ordinary `def` endpoint. On the event loop it was a little faster for one
client and a good deal slower for 64: connections are not spread evenly over the processes, and ONNX Runtime lets go of the interpreter.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from classifier import AnswerCache, Classifier
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

app = FastAPI(openapi_url=None)
classifier = Classifier.from_environment()
cache = AnswerCache()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Answers a picture, sent as the request's body."""
    picture = await request.body()
    key = sha256(picture).digest()
    answer = cache.get(key)
    if answer is None:
        try:
            answer = await run_in_threadpool(classifier.answer, picture)
        except OSError as problem:
            raise HTTPException(422, "not a picture") from problem
        cache.put(key, answer)
    return Response(answer, media_type="application/json")
