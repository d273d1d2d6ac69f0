"""The server and the model registry: champions that move, versions that are no good, canaries and shadows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from components.tracking.live_version import LiveVersion, LiveVersions
from components.tracking.registry import promote, rollback
from components.tracking.store import connect
from tests.model_server import ModelServer
from tests.word_bundle import MODEL, register_word_bundle, translation, write_word_bundle

PREDICT = f"/predict/{MODEL}"
CHAMPION = f"models:/{MODEL}@champion"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose registry holds versions 1 to 3; number 4 promises answers it does not give."""
    root = tmp_path_factory.mktemp("project")
    for version in (1, 2, 3):
        assert register_word_bundle(root, write_word_bundle(root / "made", version)) == version
    register_word_bundle(root, write_word_bundle(root / "made", 4, golden={"w1": "t0"}))
    return root


@pytest.fixture
def project(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the registry in which version 1 is champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / ".modelpress").mkdir()
    shutil.copy(registered / ".modelpress/mlflow.db", tmp_path / ".modelpress/mlflow.db")
    promote(tmp_path, MODEL, 1, force=True)
    return tmp_path


class Asking:
    """Clients that ask all the time and keep count: of statuses, and of answers that are not their version's."""

    def __init__(self, server: ModelServer, clients: int = 4) -> None:
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.wrong: list[object] = []
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        import requests

        session = requests.Session()
        while not self._stop.is_set():
            text = f"w{number} w{number + 10}"
            response = session.post(self._server.url + PREDICT, json={"inputs": [text]}, timeout=30)
            self.statuses[response.status_code] += 1
            if response.ok:
                version = response.json()["version"]
                self.versions[version] += 1
                if response.json()["answers"] != [translation(text, int(version))]:
                    self.wrong.append(response.json())


def seconds_until(condition: Callable[[], bool], patience: float = 30.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience
        time.sleep(0.02)
    return time.monotonic() - began


def live(server: ModelServer) -> str:
    version: str = server.post(PREDICT, {"inputs": ["w1"]}).json()["version"]
    return version


@pytest.fixture
def following(project: Path) -> Iterator[ModelServer]:
    with ModelServer(project, CHAMPION) as server:
        yield server


def test_champion_moves_and_moves_back_without_a_failed_or_wrong_answer(project: Path, following: ModelServer) -> None:
    with Asking(following) as asking:
        promote(project, MODEL, 2, force=True)
        seconds_until(lambda: live(following) == "2")
        promote(project, MODEL, 3, force=True)
        seconds_until(lambda: live(following) == "3")
        rollback(project, MODEL)
        assert seconds_until(lambda: live(following) == "2") < 5
    assert set(asking.statuses) == {200}
    assert asking.wrong == []
    assert set(asking.versions) == {"1", "2", "3"}
    assert following.metric("modelpress_swaps_total", model=MODEL) == 3
    assert following.metric("modelpress_version_live", version="2", role="live") == 1
    assert following.metric("modelpress_version_live") == 1


def test_version_that_answers_otherwise_than_promised_is_refused(project: Path, following: ModelServer) -> None:
    promote(project, MODEL, 4, force=True)
    seconds_until(lambda: following.metric("modelpress_failed_loads_total", version="4") == 1)
    assert live(following) == "1"
    (line,) = [line for line in following.events() if line["event"].startswith("refused a version")]
    assert (line["version"], line["still"]) == ("4", "1")
    assert "golden examples" in line["reason"]
    rollback(project, MODEL)
    promote(project, MODEL, 2, force=True)
    seconds_until(lambda: live(following) == "2")


def test_damaged_version_is_refused(project: Path, following: ModelServer) -> None:
    made = write_word_bundle(project / "made", version=9)
    number = register_word_bundle(project, made)
    client = connect(project)
    run = client.get_model_version(MODEL, str(number)).run_id
    (made / "translate.onnx").write_bytes(b"\x00" * 10)
    client.log_artifact(run, str(made / "translate.onnx"), "bundle")
    client.set_registered_model_alias(MODEL, "champion", str(number))
    seconds_until(lambda: following.metric("modelpress_failed_loads_total", version=str(number)) == 1)
    assert live(following) == "1"
    (line,) = [line for line in following.events() if line["event"].startswith("refused a version")]
    assert "sha256 differs from the manifest" in line["reason"]


def test_server_goes_on_when_the_registry_is_gone(project: Path, following: ModelServer) -> None:
    database = project / ".modelpress/mlflow.db"
    content = database.read_bytes()
    database.write_bytes(b"not a database " * 1000)
    seconds_until(lambda: following.metric("modelpress_registry_errors_total") >= 1)
    assert live(following) == "1"
    database.write_bytes(content)
    promote(project, MODEL, 2, force=True)
    seconds_until(lambda: live(following) == "2")


def test_canary_gets_its_share_and_shadow_is_compared(project: Path) -> None:
    beside = ["--canary", f"models:/{MODEL}/2=25", "--shadow", f"models:/{MODEL}/3", f"models:/{MODEL}/2"]
    with ModelServer(project, CHAMPION, *beside) as server:
        versions = Counter(live(server) for _ in range(40))
        assert versions == {"1": 30, "2": 10}
        assert server.metric("modelpress_requests_total", role="canary", version="2", status="200") == 10
        seconds_until(lambda: server.metric("modelpress_shadow_answers_total", version="3", outcome="different") == 30)
        tensor = {"name": "source", "shape": [1, 2], "datatype": "INT64", "data": [5, 6]}
        assert server.post(f"/v2/models/{MODEL}/infer", {"inputs": [tensor]}).ok
        seconds_until(lambda: server.metric("modelpress_shadow_answers_total", version="3", outcome="different") == 31)
        assert server.post(f"{PREDICT}/versions/2", {"inputs": ["w1"]}).json()["answers"] == ["t3"]
        assert server.get(f"/v2/models/{MODEL}").json()["versions"] == ["1", "2", "3"]
        (model,) = server.get("/models").json()
        assert {(place["version"], place["role"]) for place in model["versions"]} == {
            ("1", "live"), ("2", "pinned"), ("2", "canary"), ("3", "shadow"),
        }  # fmt: skip


def processes(server: ModelServer) -> list[psutil.Process]:
    alive = [child for child in psutil.Process(server.process.pid).children() if child.status() != "zombie"]
    return [child for child in alive if "spawn_main" in str(child.cmdline())]


def all_answer(server: ModelServer, version: str, count: int) -> bool:
    return server.metric("modelpress_version_live", version=version) == count


def test_processes_share_the_address_the_alias_and_the_measures(project: Path) -> None:
    with ModelServer(project, CHAMPION, "--processes", "2") as server:
        seconds_until(lambda: all_answer(server, "1", 2))
        with Asking(server, clients=8) as asking:
            promote(project, MODEL, 2, force=True)
            seconds_until(lambda: all_answer(server, "2", 2) and all_answer(server, "1", 0))
        assert (set(asking.statuses), asking.wrong) == ({200}, [])
        assert server.metric("modelpress_requests_total", model=MODEL, status="200") == asking.statuses.total()
        assert server.metric("modelpress_queue_inputs") == 0

        killed = processes(server)[0]
        killed.kill()
        seconds_until(lambda: len(processes(server)) == 2 and killed not in processes(server))
        seconds_until(lambda: all_answer(server, "2", 2))
        before = asking.statuses.total()
        assert [live(server) for _ in range(20)] == ["2"] * 20
        assert server.metric("modelpress_requests_total", model=MODEL, status="200") == before + 20
        left = processes(server)
        assert server.stop() == 0
    assert not any(process.is_running() for process in left)


def test_process_that_cannot_start_ends_the_server(project: Path) -> None:
    damaged = write_word_bundle(project / "damaged", version=1, golden={"w1": "t0"})
    with ModelServer(project, str(damaged), "--processes", "2", wait=False) as server:
        assert server.process.wait(60) == 2
        events = server.events()
    assert any("golden examples" in str(line) for line in events)
    assert events[-1] == {"text": "a process could not start; the log's last error above says why"}


def test_only_signed_bundles_are_served_when_a_signature_is_required(project: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from deploy.signing import sign

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = write_word_bundle(tmp_path / "signed", version=5)
    sign(signed, private)
    number = register_word_bundle(project, signed)
    with ModelServer(project, str(signed), "--require-signature", str(public)) as server:
        assert server.post("/predict/words-fp32", {"inputs": ["w1"]}).json()["answers"] == ["t6"]
    with ModelServer(project, f"models:/{MODEL}/{number}", "--require-signature", str(public)) as server:
        assert live(server) == str(number)
    with pytest.raises(AssertionError, match="not signed"):
        ModelServer(project, CHAMPION, "--require-signature", str(public)).__enter__()


def test_alias_means_the_same_whoever_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = connect(project).get_model_version(MODEL, "1").tags["bundle_sha256"]
    expected = [LiveVersion(1, digest), None, LiveVersion(1, digest), None, None]
    questions = [
        (MODEL, "champion", None),
        (MODEL, "other", None),
        (MODEL, None, 1),
        (MODEL, None, 99),
        ("no", "a", None),
    ]
    by_file = LiveVersions(project)
    assert [by_file.read(*question) for question in questions] == expected
    by_client = LiveVersions(project)
    monkeypatch.setattr(by_client, "_uri", "postgresql://nobody")
    assert [by_client.read(*question) for question in questions] == expected
    with mlflow_server(project) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        by_rest = LiveVersions(project)
        assert [by_rest.read(*question) for question in questions] == expected


@contextmanager
def mlflow_server(project: Path) -> Iterator[str]:
    import requests

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url, store = f"http://127.0.0.1:{port}", f"sqlite:///{project}/.modelpress/mlflow.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", port, "--workers", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=project, start_new_session=True,
    )  # fmt: skip

    def up() -> bool:
        try:
            return requests.get(f"{url}/health", timeout=2).ok
        except requests.ConnectionError:
            return False

    try:
        seconds_until(up, patience=120)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers outlive a gentler end
        process.wait(30)
