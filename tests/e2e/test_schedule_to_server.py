"""From new data to a live model with nobody there: a cron schedule, the gate, a server that follows the champion."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from components.core.files import read_json
from tests.e2e.services import wait
from tests.model_server import ModelServer
from tests.workspace import make_workspace, workspace_environment

pytestmark = pytest.mark.timeout(1200)
MODELPRESS = [sys.executable, "-m", "pipelines.cli"]
VARIANT = "tiny-fp32"
FEW, MANY = 100, 400  # training pairs, of which the second model also learns longer, so that the gate lets it through


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """A workspace whose pages run and whose recipe is scheduled every minute, new champions included."""
    root = make_workspace(tmp_path / "workspace", [VARIANT])
    keep_training_pairs(root, FEW, epochs=1)
    environment = workspace_environment(root)
    commands = {
        "ui": [*MODELPRESS, "ui"],
        "schedule": [*MODELPRESS, "schedule", "tiny", "--cron", "* * * * *", "--promote"],
    }
    processes = []
    try:
        for name, command in commands.items():
            log = (root / f"{name}.log").open("w")
            processes.append(subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log))
            if name == "ui":
                wait(lambda: "Ctrl-C stops both" in (root / "ui.log").read_text(), seconds=120)
        yield root
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
            process.wait(60)


def flow_runs(root: Path) -> list[dict[str, Any]]:
    """Return the scheduled runs that have ended, the first one first."""
    (address,) = [line.split()[1] for line in (root / "ui.log").read_text().splitlines() if line.startswith("Prefect")]
    runs = requests.post(f"{address}/api/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=30).json()
    ended = [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
    return [{**run, "tasks": _tasks(address, run["id"])} for run in ended]


def _tasks(address: str, flow_run: str) -> dict[str, str]:
    query = {"flow_runs": {"id": {"any_": [flow_run]}}}
    tasks = requests.post(f"{address}/api/task_runs/filter", json=query, timeout=30).json()
    return {task["name"]: task["state_name"] for task in tasks}


def keep_training_pairs(root: Path, count: int, epochs: int) -> None:
    """Let the mirror have the first so many training pairs, pin them and say how long to train, as a commit would."""
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    files = params["datasets"]["tiny-pairs"]["source"]["files"]
    for side in ("en", "ja"):
        path = root.parent / "workspace-mirror" / "tiny-pairs" / f"train.{side}"
        full = path.with_suffix(f".{side}.full")
        if not full.exists():
            full.write_bytes(path.read_bytes())
        text = "".join(full.read_text("utf-8").splitlines(keepends=True)[:count])
        path.write_text(text, "utf-8")
        files[f"train.{side}"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    params["recipes"]["tiny"]["train"]["epochs"] = epochs
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")


def test_schedule_finds_new_data_retrains_promotes_and_the_server_follows(workspace: Path) -> None:
    (first, *_) = wait(lambda: flow_runs(workspace), seconds=400)
    assert first["state_type"] == "COMPLETED", (workspace / "schedule.log").read_text()[-3000:]
    assert first["auto_scheduled"] is True
    with ModelServer(workspace, "models:/tiny@champion", environment=workspace_environment(workspace)) as server:
        text = read_json(workspace / "bundles" / "tiny" / VARIANT / "golden.json")["examples"][0]["input"]
        assert server.post("/predict/tiny", {"inputs": [text]}).json()["version"] == "1"
        keep_training_pairs(workspace, MANY, epochs=20)

        def retrained() -> dict[str, Any] | None:
            runs = [run for run in flow_runs(workspace) if run["tasks"].get("train@tiny") == "Completed"]
            return runs[1] if len(runs) > 1 else None

        second = wait(retrained, seconds=400)
        assert second["state_type"] == "COMPLETED"
        assert second["tasks"]["fetch@tiny-pairs"] == "Completed"
        assert second["tasks"]["hardware"] == "Cached"  # what new data does not touch
        live = read_json(workspace / ".modelpress/registered/tiny.json")
        digest = hashlib.sha256((workspace / "bundles/tiny" / VARIANT / "manifest.json").read_bytes()).hexdigest()
        assert live["bundle_sha256"] == digest
        wait(lambda: server.post("/predict/tiny", {"inputs": [text]}).json()["version"] == "2", seconds=30)
        assert server.process.poll() is None
