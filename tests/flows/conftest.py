"""A small git and DVC repository of shell stages, and the flow run in it as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.prefect_server import TemporaryServer, set_prefect_defaults
from pipelines.stage_host import FLOW_ROOT_VARIABLE

CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A finished flow process."""

    code: int
    output: str

    @property
    def states(self) -> dict[str, str]:
        (line,) = [line for line in self.output.splitlines() if line.startswith("STATES ")]
        return dict(json.loads(line.removeprefix("STATES ")))


@dataclass(frozen=True)
class Repository:
    """A folder under git and DVC whose dvc.yaml holds tiny stages."""

    root: Path
    env: dict[str, str]

    def write(self, stages: dict[str, object], params: dict[str, object] | None = None) -> None:
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        if params:
            (self.root / "params.yaml").write_text(yaml.safe_dump(params))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(CODE / "tests" / "flows" / "drive.py"), *arguments]
        return subprocess.Popen(
            command, cwd=self.root, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def flow(self, *arguments: str) -> Run:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        return Run(process.returncode, output)

    def modelpress(self, *arguments: str) -> Run:
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=200,
        )
        return Run(done.returncode, done.stdout)

    def dvc(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=self.root, env=self.env, check=True, capture_output=True)

    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text()

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def processes(self) -> list[psutil.Process]:
        """Return what a flow of this folder has started and is still alive."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(FLOW_ROOT_VARIABLE) == str(self.root) and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for all flow tests of a worker: starting one takes seconds."""
    root = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(root / "home"))
        (root / ".modelpress").mkdir()
        set_prefect_defaults(root)
        server = TemporaryServer(root)
        server.wait()
        yield server.url
        server.stop()


@pytest.fixture
def make_repository(prefect_server: str, tmp_path: Path) -> Callable[[str], Repository]:
    def make(name: str = "repository") -> Repository:
        root = tmp_path / name
        root.mkdir()
        env = {**os.environ, "PREFECT_API_URL": prefect_server, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(CODE)}
        env.pop("PREFECT_HOME", None)
        repository = Repository(root, env)
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        repository.dvc("init", "-q")
        (root / ".gitignore").write_text(".modelpress/\n")
        return repository

    return make


@pytest.fixture
def repository(make_repository: Callable[[str], Repository]) -> Repository:
    return make_repository("repository")


@pytest.fixture(autouse=True)
def no_shell_surprises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", shutil.which("sh") or "/bin/sh")
