"""Asks a running gateway with the stock client of Triton, and compares with what `/predict` says of the same picture.

Arguments: the gateway's host and port, a picture of the model's size as PNG, the same picture's pixels, row by row, and, where one is
needed, an API key.
Every check is an assertion; the exit status is 0 only if all held.
"""

import json
import sys
import urllib.request

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

MODEL, INPUT, OUTPUT = "fashion-mnist", "image", "logits"
MEAN, STD = np.float32(0.286), np.float32(0.353)


def main() -> None:
    """Runs every check."""
    address, picture, raw, *keys = sys.argv[1:]
    client = triton.InferenceServerClient(address, network_timeout=60.0, connection_timeout=60.0)
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    if keys:
        locked(client)
        client.register_plugin(Shown(headers))
    metadata(client)
    labels, expected = predicted(address, picture, headers)
    pixels = np.fromfile(raw, dtype=np.uint8).reshape(1, 1, 28, 28)
    floats = (pixels.astype(np.float32) / np.float32(255.0) - MEAN) / STD
    for binary in (False, True):
        assert (scores(client, pixels, binary) == expected).all(), f"UINT8, binary {binary}"
        assert np.allclose(scores(client, floats, binary), expected, atol=1e-5), f"FP32, binary {binary}"
        many = scores(client, np.concatenate([pixels] * 3), binary)
        assert many.shape == (3, len(labels)) and (many == expected).all(), f"three images, binary {binary}"
        assert classes(client, pixels, binary)[0] == f"{labels[expected.argmax()]}", f"classification, binary {binary}"
    assert (client.infer(MODEL, [given(pixels, True)], request_id="r-1").as_numpy(OUTPUT) == expected).all()
    assert client.infer(MODEL, [given(pixels, True)], request_id="r-1").get_response()["id"] == "r-1"
    refusals(client, pixels)
    print("triton: all checks held")


class Shown(triton.InferenceServerClientPlugin):
    """Shows these headers with every call."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers

    def __call__(self, request) -> None:
        request.headers.update(self.headers)


def locked(client: triton.InferenceServerClient) -> None:
    """Health is open; an inference without a key is refused."""
    assert client.is_server_live() and client.is_server_ready()
    pixels = np.zeros((1, 1, 28, 28), dtype=np.uint8)
    try:
        client.infer(MODEL, [given(pixels, True)])
    except InferenceServerException as error:
        print(f"without a key: {error.status()}")
    else:
        raise AssertionError("an inference without a key was answered")


def metadata(client: triton.InferenceServerClient) -> None:
    """Health and descriptions."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("no-such-model") and not client.is_model_ready(MODEL, "99")
    server = client.get_server_metadata()
    assert server["name"] == "selvage" and {"classification", "binary_tensor_data"} <= set(server["extensions"]), server
    model = client.get_model_metadata(MODEL)
    assert model == client.get_model_metadata(MODEL, "1")
    assert model["name"] == MODEL and model["versions"] == ["1"], model
    assert model["inputs"] == [{"name": INPUT, "datatype": "FP32", "shape": [-1, 1, 28, 28]}], model
    assert model["outputs"] == [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 10]}], model
    config = client.get_model_config(MODEL)
    assert config["max_batch_size"] == 64 and config["input"][0]["format"] == "FORMAT_NCHW", config
    assert config["input"][0]["dims"] == [1, 28, 28] and config["output"][0]["dims"] == [10], config


def predicted(address: str, picture: str, headers: dict[str, str]) -> tuple[list[str], np.ndarray]:
    """Labels and scores of `/predict`, in the order of the labels."""
    with open(picture, "rb") as file:
        request = urllib.request.Request(f"http://{address}/predict?top_k=10", data=file.read(), headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        top = sorted(json.load(response)["output"]["top"], key=lambda ranked: ranked["index"])
    return [ranked["label"] for ranked in top], np.array([ranked["score"] for ranked in top], dtype=np.float32)


def given(array: np.ndarray, binary: bool, name: str = INPUT) -> triton.InferInput:
    """The array as an input."""
    tensor = triton.InferInput(name, list(array.shape), {"uint8": "UINT8", "float32": "FP32"}[array.dtype.name])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def scores(client: triton.InferenceServerClient, array: np.ndarray, binary: bool) -> np.ndarray:
    """The scores of each image."""
    wanted = triton.InferRequestedOutput(OUTPUT, binary_data=binary)
    return client.infer(MODEL, [given(array, binary)], outputs=[wanted]).as_numpy(OUTPUT)


def classes(client: triton.InferenceServerClient, array: np.ndarray, binary: bool) -> list[str]:
    """The labels of the best three classes, best first."""
    wanted = triton.InferRequestedOutput(OUTPUT, binary_data=binary, class_count=3)
    found = client.infer(MODEL, [given(array, binary)], outputs=[wanted]).as_numpy(OUTPUT)
    assert found.shape == (1, 3), found
    texts = [text.decode() if isinstance(text, bytes) else text for text in found[0]]
    return [text.split(":", 2)[2] for text in texts]


def refusals(client: triton.InferenceServerClient, pixels: np.ndarray) -> None:
    """Errors reach the client as sentences with their status."""
    nan = np.full((1, 1, 28, 28), np.nan, dtype=np.float32)
    for tensor, status in (
        (given(pixels[:, :, :14], True), "400"),
        (given(pixels.reshape(1, 784), False), "400"),
        (given(np.concatenate([pixels] * 65), True), "400"),
        (given(pixels, True, "other"), "400"),
        (given(nan, True), "400"),
    ):
        try:
            client.infer(MODEL, [tensor])
        except InferenceServerException as error:
            assert error.status() == status and error.message(), error
        else:
            raise AssertionError(f"{tensor.shape()} was not refused")


if __name__ == "__main__":
    main()
