"""What Schemathesis cannot know from a schema: what an image is, what a model takes, and which parts of a request depend on others.

Loaded by Schemathesis (`SCHEMATHESIS_HOOKS`). `SELVAGE_PICTURES` names a folder with one picture per format.
"""

import base64
import itertools
import json
import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

PICTURES = {picture.suffix[1:]: picture.read_bytes() for picture in Path(os.environ["SELVAGE_PICTURES"]).iterdir()}
MODEL, VERSION = "fashion-mnist", "1"
# In bytes as they are sent; the tester writes what is not ASCII as escapes.
MOST_METADATA = 1024
TENSOR = {"name": "image", "shape": [1, 1, 28, 28], "datatype": "UINT8", "data": [at % 256 for at in range(28 * 28)]}
numbers = itertools.count()

any_picture = st.sampled_from(sorted(PICTURES.values()))
for kind, picture in PICTURES.items():
    schemathesis.openapi.media_type(f"image/{kind}", st.just(picture))
schemathesis.openapi.media_type("application/octet-stream", any_picture)
texts = any_picture.map(base64.b64encode).map(bytes.decode)
schemathesis.openapi.format("base64-image", st.one_of(texts, texts.map("data:image/png;base64,{}".format)))
schemathesis.openapi.format("binary", any_picture)
# Jobs that a test made up get no webhook: nobody listens here.
schemathesis.openapi.format("uri", st.just("http://127.0.0.1:9/hook"))


def is_small(options):
    """Whether metadata is within its bound, which is one of bytes: no schema can say that."""
    metadata = options.get("metadata") if isinstance(options, dict) else None
    return len(metadata if isinstance(metadata, str) else json.dumps(metadata)) <= MOST_METADATA


@schemathesis.hook
def filter_query(context, query):
    """Leaves out requests that are wrong for a reason no schema can give."""
    return is_small(query)


@schemathesis.hook
def filter_body(context, body):
    """The same for options in a body."""
    return is_small(body)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps requests that are meant to be right from being wrong for reasons no schema can give."""
    if "Idempotency-Key" in (case.headers or {}):
        # A key that was used before makes a request another one's repeat.
        case.headers["Idempotency-Key"] = f"key-{next(numbers)}"
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if isinstance(case.body, dict):
        # An option is given in one place only.
        for name in set(case.query or {}) & set(case.body):
            del case.query[name]
    if next(numbers) % 2:
        # Most names a schema allows are no model's: half of the requests name the one that is there.
        # A form that was changed here would no longer be known as right: the tester cannot judge a file's bytes.
        body = None if case.media_type == "multipart/form-data" else case.body
        for values in (case.query, case.path_parameters, body):
            if isinstance(values, dict):
                for field, known in (("model", MODEL), ("version", VERSION), ("name", MODEL)):
                    if field in values:
                        values[field] = known
        if case.operation.path.endswith("/infer") and isinstance(case.body, dict):
            case.body = {"inputs": [TENSOR]}
