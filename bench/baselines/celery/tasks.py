"""The worker side of the Celery baseline: RabbitMQ in, Redis out, the model loaded once in each process.

    BASELINE_AMQP_URL=… BASELINE_REDIS_URL=… BASELINE_MODEL=… celery --workdir bench/baselines/celery -A tasks worker --concurrency 2

Settings are those a careful user has: late acknowledgement, prefetch 1, durable queue and persistent messages; pictures travel
as msgpack bytes, not base64; nothing that costs time without need (events, gossip, mingle) is on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from celery import Celery
from celery.signals import worker_process_init
from classifier import Classifier

app = Celery("tasks", broker=os.environ["BASELINE_AMQP_URL"], backend=os.environ["BASELINE_REDIS_URL"])
app.conf.update(
    accept_content=["msgpack"],
    result_accept_content=["json"],
    result_expires=3600,
    result_serializer="json",
    task_acks_late=True,
    task_default_queue=os.environ.get("BASELINE_QUEUE", "celery"),
    task_ignore_result=False,
    task_serializer="msgpack",
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
)

classifier: Classifier | None = None


@worker_process_init.connect
def load_model(**_signal) -> None:
    """Loads the model in a new worker process."""
    global classifier
    classifier = Classifier.from_environment()
    print("baseline: model loaded", file=sys.stderr, flush=True)


@app.task
def predict(picture: bytes) -> str:
    """The answer to an encoded picture as JSON."""
    return classifier.answer(picture)
