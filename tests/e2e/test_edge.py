"""A bundle on a device: a fresh environment with nothing but its requirements answers as the predictor does here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.core.files import read_json
from components.inference import load_predictor
from tests.tiny_bundle import tiny_translator
from tests.workspace import REPOSITORY

ABSENT = ("torch", "lightning", "mlflow", "prefect", "dvc", "onnx", "pydantic")


@dataclass(frozen=True)
class Device:
    """An exported folder, the bundle it was made from, and an environment of its own beside it."""

    bundle: Path
    folder: Path
    python: Path

    def run(self, *arguments: str) -> str:
        """Return what a command of the device's Python prints, in an environment that knows no repository."""
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    root = tmp_path_factory.mktemp("edge")
    bundle, folder, python = tiny_translator(root), root / "device", root / "venv" / "bin" / "python"
    export = [sys.executable, "-m", "pipelines.cli", "export-edge", bundle, folder]
    subprocess.run(export, cwd=REPOSITORY, check=True)
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", folder / "requirements.txt"], check=True)
    return Device(bundle, folder, python)


def test_device_has_only_the_requirements(device: Device) -> None:
    present = device.run("-c", f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])")
    assert present.strip() == "[]"


def test_device_answers_the_golden_examples_as_the_predictor_does(device: Device, tmp_path: Path) -> None:
    inputs = [example["input"] for example in read_json(device.bundle / "golden.json")["examples"]]
    expected = load_predictor(device.bundle).predict(inputs)
    assert len(set(expected)) > len(expected) / 2
    (tmp_path / "inputs.txt").write_text("\n".join(inputs), encoding="utf-8")
    assert device.run("run.py", "--file", str(tmp_path / "inputs.txt")).splitlines() == expected
    assert device.run("run.py", inputs[0]).splitlines() == load_predictor(device.bundle).predict(inputs[:1])


def test_report_names_what_was_installed_and_stays_within_150_mb_of_memory(device: Device) -> None:
    report = json.loads(device.run("run.py", "--report"))
    installed = report["installed_bytes"]
    assert {"numpy", "onnxruntime", "sentencepiece"} < installed.keys()
    assert "torch" not in installed
    assert installed["onnxruntime"] > 10e6
    assert report["peak_memory_bytes"] < 150e6
    assert report["answers"] == report["as_packaged"] == len(read_json(device.bundle / "golden.json")["examples"])
    assert report["cold_start_s"] > report["median_answer_s"] > 0
