"""The documentation is true: the guides' blocks, put into a copy of the repository, work, and what pages name exists.

A block's first line says what it is: ```python title="FILE" a new file, ```diff title="FILE" an edit of one,
```yaml title="params.yaml" entries to add, ```sh commands to type.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from components.compression.distill import Logit
from components.compression.feature import Feature
from components.compression.passes import PASSES
from components.core.bundle import Manifest
from components.core.files import read_json
from tests.workspace import REPOSITORY, make_workspace, workspace_environment

BLOCK = re.compile(r'^```(?P<kind>python|diff|yaml|sh)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.S | re.M)
# the installed command runs the code it was installed from, and the workspace has its own
COMMANDS = 'modelpress() { python -m pipelines.cli "$@"; }\n'


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    title: str | None
    text: str


def blocks(page: str) -> list[Block]:
    """Return a page's blocks that a reader is to type, in order."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return [Block(found["kind"], found["title"], found["text"]) for found in BLOCK.finditer(text)]


def follow(page: str, root: Path) -> str:
    """Do all a page says, in a workspace; return what its commands printed."""
    for block in blocks(page):
        if block.title == "params.yaml":
            _add_params(root / block.title, yaml.safe_load(block.text))
        elif block.kind == "diff":
            assert block.title is not None
            _edit(root / block.title, block.text)
        elif block.title is not None:
            (root / block.title).parent.mkdir(parents=True, exist_ok=True)
            (root / block.title).write_text(block.text, encoding="utf-8")
    commands = "".join(block.text for block in blocks(page) if block.kind == "sh")
    done = subprocess.run(
        ["bash", "-euc", COMMANDS + commands],
        cwd=root,
        env=workspace_environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _add_params(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, block in entries.items():
        assert not params[key].keys() & block.keys()
        params[key].update(block)
    path.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _edit(path: Path, diff: str) -> None:
    """Apply a diff without line numbers: its old lines must stand in the file exactly once."""
    lines = diff.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: not once in it:\n{old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@dataclass(frozen=True)
class Followed:
    """A workspace after a page, and what the page's commands printed."""

    root: Path
    output: str


@pytest.fixture(scope="module")
def after_task_page(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """The repository's copy after add-a-task.md."""
    root = make_workspace(tmp_path_factory.mktemp("docs") / "workspace")
    return Followed(root, follow("add-a-task.md", root))


@pytest.fixture(scope="module")
def after_pass_page(after_task_page: Followed) -> Followed:
    """The same copy after add-a-pass.md, which goes on from there."""
    return Followed(after_task_page.root, follow("add-a-pass.md", after_task_page.root))


def test_task_page_trains_compresses_and_selects_when_followed(after_task_page: Followed) -> None:
    selection = read_json(after_task_page.root / "metrics" / "waveform" / "selection.json")
    rows = {row["variant"]: row for row in selection["variants"]}
    teacher, student = rows["waveform-teacher-fp32"], rows["waveform-student-int8"]
    assert 82 < teacher["quality"]["dev"]["accuracy"] < 89  # the Bayes rule is right in 86 of 100 cases
    assert selection["selected"] == "waveform-student-int8"
    assert student["size_bytes"] * 10 < teacher["size_bytes"]
    assert (after_task_page.root / "reports" / "waveform" / "index.html").is_file()


def test_task_page_adds_one_file_and_one_params_block() -> None:
    titled = [block.title for block in blocks("add-a-task.md") if block.title is not None and block.title != "waves.py"]
    assert titled == ["components/tasks/waveform.py", "params.yaml"]


def test_task_page_predicts_with_the_bundle_when_followed(after_task_page: Followed) -> None:
    assert after_task_page.output.splitlines()[-1] in ("h1+h2", "h1+h3", "h2+h3")


def test_task_page_leaves_other_recipes_alone_when_followed(after_task_page: Followed) -> None:
    assert not (after_task_page.root / "models" / "tiny").exists()


def test_pass_page_leaves_few_distinct_weights_when_followed(after_pass_page: Followed) -> None:
    graph = onnx.load(after_pass_page.root / "bundles" / "waveform" / "waveform-shared-fp32" / "classify.onnx")
    matrices = [array for array in map(numpy_helper.to_array, graph.graph.initializer) if array.ndim == 2]
    assert [len(np.unique(matrix)) for matrix in matrices] == [16] * len(matrices)
    assert len(matrices) == 3  # of the guide's network with two hidden layers


@pytest.mark.parametrize("page", ["add-a-task.md", "add-a-pass.md"])
def test_python_blocks_pass_ruff_when_checked_as_files_of_the_repository(page: str) -> None:
    for block in blocks(page):
        if block.kind == "python" and block.title is not None:
            path = str(REPOSITORY / block.title)
            for command in (["check"], ["format", "--check"]):
                done = subprocess.run(
                    ["ruff", *command, "--stdin-filename", path, "-"],
                    input=block.text,
                    cwd=REPOSITORY,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{block.title}: {done.stdout}{done.stderr}"


def test_named_files_exist_when_pages_point_at_them() -> None:
    made_by_the_guides = {
        block.title for page in ("add-a-task.md", "add-a-pass.md") for block in blocks(page) if block.kind == "python"
    }
    for page in (REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:components|pipelines|tests|docs)/[\w./-]*)`", text)
        linked = [str((page.parent / target).resolve()) for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text)]
        missing = [name for name in [*named, *linked] if not (REPOSITORY / name).exists()]
        assert not set(missing) - made_by_the_guides, page.name


def test_compression_page_names_every_option_of_its_passes_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "compression.md").read_text(encoding="utf-8")
    passes = {name: block for name, block in PASSES.items() if name != "quantize_aware"}  # it has a page of its own
    for name, block in [*passes.items(), ("distill", Logit), ("distill", Feature)]:
        for option, field in block.model_fields.items():
            assert re.search(rf"^\| [^|]*`{option}`|`{name}: {{[^`]*\b{option}:", page, re.M), (name, option)
            row = re.search(rf"^\| `{option}` \| ([^|]*) \|", page, re.M)
            if row and isinstance(field.default, (int, float, str)):
                assert row[1] == str(field.default), (name, option)


def test_architecture_page_names_every_stage_and_import_rule_of_the_code() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert re.findall(r"^\| `(\w+)` \| `", page, re.M) == list(stages)
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        assert f"| {contract['name']} |" in page


def test_architecture_page_shows_a_manifest_with_every_field() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```$", page, re.S | re.M)
    assert set(json.loads(example)) == {field.name for field in fields(Manifest)}
