"""The console command's surface: its commands, their help, its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from components.core.errors import ModelpressError
from pipelines.cli import _inputs, _printable, app
from tests.workspace import REPOSITORY

COMMANDS = [
    "run", "search", "status", "clean", "report", "ui", "predict", "schedule", "promote", "rollback", "versions",
    "serve",
    "sign", "verify", "pack", "unpack", "export-triton", "export-web", "export-edge",
]  # fmt: skip


def modelpress(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_commands_are_these() -> None:
    assert list(typer.main.get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: modelpress {command}" in result.output


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "lightning", "mlflow", "prefect", "dvc", "onnx", "onnxruntime", "numpy", "pydantic"]
    code = f"""
import sys
from components.core.errors import ModelpressError
from pipelines.cli import _inputs, app
try:
    app(["--help"])
except SystemExit:
    print("LOADED", [name for name in {heavy} if name in sys.modules])
"""
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "LOADED []" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "params.yaml: no such file; run modelpress in the folder that holds it"),
        (["status"], "params.yaml: no such file"),
        (["predict", "nothing", "text"], "no bundle 'nothing'; nothing is packaged yet"),
        (["predict", "nothing"], 'give one of: a "text"'),
        (["promote", "nothing"], "params.yaml: no such file"),
        (["report", "--all"], "params.yaml: no such file"),
        (["report", "nothing", "--all"], "a recipe or --all, not both"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = modelpress(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("one\u2028still one\nt\x0cwo\n\nlast".encode(), ["one\u2028still one", "t\x0cwo", "", "last"]),
        (b"\xef\xbb\xbfa\r\nb\r\n", ["a", "b"]),
        (b"", []),
    ],
)
def test_predict_reads_one_input_a_line(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    assert _inputs(None, tmp_path / "x.txt") == lines


def test_predict_refuses_what_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ModelpressError, match=r"x\.txt: not UTF-8 .* at byte 3"):
        _inputs(None, tmp_path / "x.txt")
    with pytest.raises(ModelpressError, match="the text: not UTF-8"):
        _inputs(os.fsdecode(b"caf\xe9"), None)


def test_a_table_of_numbers_is_printed_as_csv_and_any_other_answer_as_it_is() -> None:
    assert _printable([[1.5, 2.0], [3.0, -4.25]]) == "1.5,2.0\n3.0,-4.25"
    assert _printable("a sentence") == "a sentence"
    assert _printable({"label": "cat"}) == {"label": "cat"}
    assert _printable([]) == []
