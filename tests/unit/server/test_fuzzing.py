"""Requests nobody should send: each is refused in one line that names no path, and the server goes on.

MODELPRESS_FUZZ=20000 makes as many of them instead of a few hundred.
"""

from __future__ import annotations

import http.client
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model_server import ModelServer
from tests.workspace import REPOSITORY

REQUESTS = int(os.environ.get("MODELPRESS_FUZZ", "300"))
MODEL = "words-fp32"
INFER, PREDICT = f"/v2/models/{MODEL}/infer", f"/predict/{MODEL}"
DECLARED_OVERLOAD = (429, 503, 504)
NOT_HTTP = "Invalid HTTP request received."  # uvicorn's own answer, before any route
LEAKS = [str(REPOSITORY), "site-packages", "onnxruntime", "/tmp/", "Traceback", ".py"]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner), max_leaves=8
)
numbers = st.integers(-(2**70), 2**70) | st.sampled_from([0, -1, 2**31, 2**63, 10**30])
names = st.sampled_from(
    [
        "..",
        "../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "a" * 5000,
        ".",
        "words-fp32.translate",
        "☃",
    ]
) | st.text(max_size=20)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    """A good tensor with up to three things wrong."""
    tensor: dict[str, Any] = {"name": "source", "shape": [1, 3], "datatype": "INT64", "data": [5, 6, 3]}
    wrong: dict[str, st.SearchStrategy[Any]] = {
        "name": names | values,
        "shape": st.lists(numbers, max_size=5) | values,
        "datatype": st.sampled_from(["FP32", "FP16", "BOOL", "BYTES", "BF16", "int64", ""]) | values,
        "data": st.lists(numbers | st.floats(), max_size=6) | values,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "shared_memory_region"]), numbers | values),
    }
    for key in draw(st.sets(st.sampled_from(sorted(wrong)), max_size=3)):
        tensor[key] = draw(wrong[key])
    if draw(st.booleans()):
        tensor.pop(draw(st.sampled_from(sorted(tensor))))
    return tensor


@st.composite
def infer_requests(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    """JSON, sometimes with bytes behind it whose announced lengths are right, wrong or absurd."""
    request: dict[str, Any] = {"inputs": draw(st.lists(tensors(), max_size=3) | values)}
    if draw(st.booleans()):
        request["outputs"] = draw(st.lists(st.fixed_dictionaries({"name": names}), max_size=2) | values)
    tail = b""
    if draw(st.booleans()):
        size = draw(st.sampled_from([24, 24, 23, 0, -1, 2**40]))
        tensor = {"name": "source", "shape": [1, 3], "datatype": "INT64", "parameters": {"binary_data_size": size}}
        request["inputs"] = [tensor]
        tail = struct.pack("<3q", 5, 6, draw(st.sampled_from([3, 2**62, -1])))[: draw(st.integers(0, 24))]
    head = json.dumps(request).encode()
    length = draw(st.sampled_from([len(head), len(head), len(head) - 1, 0, 10**9, -5]))
    return INFER, head + tail, {"Inference-Header-Content-Length": str(length)} if tail else {}


@st.composite
def predict_requests(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    body = draw(st.fixed_dictionaries({"inputs": st.lists(values | names, max_size=5)}) | values)
    return PREDICT, json.dumps(body).encode(), {}


@st.composite
def odd_requests(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    """Bytes that are no JSON, and names that are no model's."""
    if draw(st.booleans()):
        return draw(st.sampled_from([INFER, PREDICT])), draw(st.binary(max_size=200) | st.just(b"[" * 100_000)), {}
    name = "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "./%-" else f"%{ord(letter) % 256:02x}"
        for letter in draw(names)
    )
    path = draw(
        st.sampled_from(["/predict/{}", "/v2/models/{}/infer", "/v2/models/{}", f"{PREDICT}/versions/{{}}", "/{}"])
    )
    return path.format(name), b'{"inputs": ["w1"]}', {}


@pytest.fixture(scope="module")
def paths(server: ModelServer, words: Path) -> list[str]:
    return [*LEAKS, str(words), str(words.parent)]


@settings(max_examples=REQUESTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=infer_requests() | predict_requests() | odd_requests())
def test_refusal_is_one_line_without_paths(server: ModelServer, paths: list[str], request: Any) -> None:
    path, body, headers = request
    status, text = send(server, path, body, headers)
    assert status < 500 or status in DECLARED_OVERLOAD, text
    if status != 200 and text != NOT_HTTP:
        error = json.loads(text)["error"]
        assert "\n" not in error
        for leak in paths:
            assert leak not in error.replace(path, "")


@pytest.mark.parametrize("path", ["/predict/", f"{PREDICT}/", "/models/", "/docs/"])  # once answered by a redirect
def test_slash_too_many_is_refused_with_a_word(server: ModelServer, path: str) -> None:
    status, text = send(server, path, b'{"inputs": ["w1"]}', {})
    assert status in (404, 405)
    assert "error" in json.loads(text)


def send(server: ModelServer, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Send it as it is: no client library tidies the path up."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET" if path.count("/") == 3 and "/models/" in path else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_memory_is_back_when_huge_tensors_were_sent(server: ModelServer) -> None:
    memory = psutil.Process(server.process.pid).memory_info
    for _ in range(3):
        send_rows(server, 100_000)
    before = memory().rss
    for _ in range(20):
        send_rows(server, 100_000)
    assert memory().rss < before + 20 * 2**20
    assert server.post(PREDICT, {"inputs": ["w1"]}).json()["answers"] == ["t2"]


def send_rows(server: ModelServer, length: int) -> None:
    import numpy as np
    from tritonclient.http import InferenceServerClient, InferInput

    client = InferenceServerClient(server.url.removeprefix("http://"))
    source = np.full((1, length), 5, np.int64)
    given_tensor = InferInput("source", source.shape, "INT64")
    given_tensor.set_data_from_numpy(source)
    np.testing.assert_array_equal(client.infer(MODEL, [given_tensor]).as_numpy("target"), source + 1)
    client.close()


def test_server_keeps_to_its_openapi_document(server: ModelServer, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", checks]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(max(10, REQUESTS // 30)), "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
