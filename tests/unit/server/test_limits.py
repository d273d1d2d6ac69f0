"""What the server does with too much, too slow, too late and too early."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.model_server import ModelServer
from tests.word_bundle import translation, write_word_bundle

PREDICT = "/predict/words-fp32"
SLOW = 400_000  # rounds: some tenths of a second


@pytest.fixture(scope="module")
def slow_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_bundle(tmp_path_factory.mktemp("slow") / "words", version=1, rounds=SLOW)


def ask_at_once(server: ModelServer, count: int) -> list[requests.Response]:
    def ask(number: int) -> requests.Response:
        return requests.post(server.url + PREDICT, json={"inputs": [f"w{number}"]}, timeout=60)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_overload_is_declared_and_the_rest_is_answered(slow_words: Path, tmp_path: Path) -> None:
    with ModelServer(tmp_path, str(slow_words), "--queue", "4", "--max-batch", "2") as server:
        responses = ask_at_once(server, 24)
        assert {response.status_code for response in responses} == {200, 429}
        for number, response in enumerate(responses):
            if response.status_code == 200:
                assert response.json()["answers"] == [translation(f"w{number}", 1)]
            else:
                assert response.headers["Retry-After"] == "1"
                assert "too many requests" in response.json()["error"]
        assert server.metric("modelpress_requests_total", status="429") >= 1
        assert server.metric("modelpress_batch_inputs_count") >= 2


def test_answer_is_504_when_it_comes_too_late_and_the_server_goes_on(slow_words: Path, tmp_path: Path) -> None:
    with ModelServer(tmp_path, str(slow_words), "--timeout", "0.05") as server:
        assert server.post(PREDICT, {"inputs": ["w1"]}).status_code == 504
        tensor = {"name": "source", "shape": [1, 1], "datatype": "INT64", "data": [4]}
        response = server.post("/v2/models/words-fp32/infer", {"inputs": [tensor]})
        assert response.status_code == 504
        assert response.json() == {"error": "words-fp32: no answer within 0.05 s"}
        assert server.get("/v2/health/ready").status_code == 200


def test_all_that_was_accepted_is_answered_when_the_server_is_told_to_end(slow_words: Path, tmp_path: Path) -> None:
    with ModelServer(tmp_path, str(slow_words), "--max-batch", "2") as server, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_at_once, server, 8)
        while server.metric("modelpress_queue_inputs") < 4:
            time.sleep(0.01)
        assert server.stop() == 0
        responses = asking.result()
    assert [response.status_code for response in responses] == [200] * 8
    assert [response.json()["answers"][0] for response in responses] == [translation(f"w{n}", 1) for n in range(8)]
    assert server.events()[-1]["event"] == "stopped"


def test_nothing_is_answered_before_all_is_ready(tmp_path: Path) -> None:
    very_slow = write_word_bundle(tmp_path / "words", version=1, rounds=10 * SLOW)
    with ModelServer(tmp_path, str(very_slow), wait=False) as server:
        assert server.get("/v2/health/live").status_code == 200
        assert server.get("/v2/health/ready").status_code == 400
        response = server.post(PREDICT, {"inputs": ["w1"]})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("chunked", [True, False])
def test_body_above_the_limit_is_413(server: ModelServer, chunked: bool) -> None:
    body = b'{"inputs": ["' + b"w1 " * 400_000 + b'"]}'
    response = requests.post(server.url + PREDICT, data=iter([body]) if chunked else body, timeout=30)
    assert response.status_code == 413
    assert response.json() == {"error": "a request may have 1 MiB (--max-request-mb)"}


def test_compressed_body_is_415(server: ModelServer) -> None:
    assert server.post(PREDICT, {"inputs": ["w1"]}, headers={"Content-Encoding": "gzip"}).status_code == 415


def test_more_inputs_than_the_queue_holds_are_413(server: ModelServer) -> None:
    response = server.post(PREDICT, {"inputs": ["w1"] * 513})
    assert (response.status_code, "split them" in response.json()["error"]) == (413, True)


def test_token_is_required_of_all_but_probes_when_there_is_one(words: Path, tmp_path: Path) -> None:
    with ModelServer(tmp_path, str(words), environment={"MODELPRESS_TOKEN": "Geheimnis ü"}) as server:
        refused = server.post(PREDICT, {"inputs": ["w1"]})
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        for wrong in ("Bearer Geheimnis", "Basic x", "Bearer \xff\xfe"):
            headers = {"Authorization": wrong.encode("latin-1")}
            assert server.post(PREDICT, {"inputs": ["w1"]}, headers=headers).status_code == 401
        headers = {"Authorization": "Bearer Geheimnis ü".encode()}
        assert server.post(PREDICT, {"inputs": ["w1"]}, headers=headers).json()["answers"] == ["t2"]
        assert server.get("/metrics").status_code == server.get("/openapi.json").status_code == 401
        assert server.get("/v2/health/ready").status_code == server.get("/").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /predict/x HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_connection_is_closed_when_its_head_does_not_come(idle_server: str, sent: bytes) -> None:
    assert time_until_closed(idle_server, sent) < 5


def test_request_is_408_when_its_body_does_not_come(idle_server: str) -> None:
    head = b"POST /predict/words-fp32 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    assert time_until_closed(idle_server, head, b"HTTP/1.1 408") < 5


def time_until_closed(url: str, sent: bytes, answer: bytes = b"") -> float:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.startswith(answer)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def idle_server(words: Path):
    """The same server in a thread: the command has no option for how patient it is."""
    import threading

    import uvicorn

    from deploy.server.app import create_app
    from deploy.server.connections import PatientProtocol
    from deploy.server.settings import LocalBundle, Reference, Settings
    from tests.unit.server.supplied import supplied

    references = [Reference("words-fp32", LocalBundle(words))]
    app = create_app(references, Settings(body_s=1.0), supplied(references))
    config = uvicorn.Config(app, port=0, http=PatientProtocol, timeout_keep_alive=1, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(20)


def test_response_leaves_in_one_piece() -> None:
    from deploy.server.connections import Together

    class Transport:
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

        def is_closing(self) -> bool:
            return False

        def close(self) -> None:
            self.written.append(b"closed")

    async def write() -> list[bytes]:
        transport = Transport()
        together = Together(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        together.write(b"head ")
        together.write(b"body")
        await asyncio.sleep(0)
        together.write(b"last")
        together.close()
        await asyncio.sleep(0)
        return transport.written

    assert asyncio.run(write()) == [b"head body", b"last", b"closed"]


@pytest.mark.parametrize(
    "sent", [b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n\r\n",
             b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"],
)  # fmt: skip
def test_byte_behind_an_answer_keeps_no_connection_open(idle_server: str, sent: bytes) -> None:
    host, port = idle_server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        while connection.recv(65536):
            pass  # ends once the server closes; the socket's timeout fails the test


def test_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_the_server(idle_server: str) -> None:
    host, port = idle_server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /predict/words-fp32 HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        time.sleep(0.3)
    for _ in range(100):
        metrics = requests.get(f"{idle_server}/metrics", timeout=20).text
        if 'status="499"' in metrics:
            break
        time.sleep(0.05)
    assert 'status="499"' in metrics
    assert 'status="500"' not in metrics
