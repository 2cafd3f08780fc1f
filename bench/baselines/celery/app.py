"""The front of the Celery baseline: FastAPI takes a picture, a Celery worker answers it, Redis caches the answer.

    BASELINE_AMQP_URL=… BASELINE_REDIS_URL=… BASELINE_MODEL=… uvicorn --app-dir bench/baselines/celery app:app --no-access-log

Waiting costs no thread: one subscription per process receives every result that Celery's Redis backend announces. This is much
faster than `AsyncResult.get`, which is what most services do.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from uuid import uuid4

import redis.asyncio
from fastapi import FastAPI, HTTPException, Request, Response

import tasks

ANSWER_SECONDS = 60.0
CACHE_SECONDS = 3600

# Where Celery's Redis backend announces a result: `<prefix><task id>`.
CHANNEL_PREFIX = tasks.app.backend.task_keyprefix.decode()

# Enough for every request at once; the client's own default of 100 fails those above it.
MAX_STORE_CONNECTIONS = 1_000

store = redis.asyncio.from_url(tasks.app.conf.result_backend, max_connections=MAX_STORE_CONNECTIONS)
waiting: dict[str, asyncio.Future[dict]] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI):
    """Listens for results as long as the service runs."""
    async with store.pubsub() as subscription:
        await subscription.psubscribe(f"{CHANNEL_PREFIX}*")
        listener = asyncio.create_task(listen(subscription))
        yield
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
    await store.aclose()


async def listen(subscription: redis.asyncio.client.PubSub) -> None:
    """Hands each announced result to whoever waits for it."""
    async for message in subscription.listen():
        if message["type"] == "pmessage":
            future = waiting.get(message["channel"].decode().removeprefix(CHANNEL_PREFIX))
            if future is not None and not future.done():
                future.set_result(json.loads(message["data"]))


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Answers a picture, sent as the request's body."""
    picture = await request.body()
    key = f"baseline:{sha256(picture).hexdigest()}"
    answer = await store.get(key)
    if answer is None:
        result = await compute(picture)
        if result["status"] != "SUCCESS":
            raise HTTPException(422, "not a picture")
        answer = result["result"]
        await store.set(key, answer, ex=CACHE_SECONDS)
    return Response(answer, media_type="application/json")


async def compute(picture: bytes) -> dict:
    """Sends the task and waits for its result. Publishing is one write to a local socket and waits for no confirm."""
    task_id = str(uuid4())
    future = asyncio.get_running_loop().create_future()
    waiting[task_id] = future
    try:
        tasks.predict.apply_async((picture,), task_id=task_id)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await future
    finally:
        del waiting[task_id]
