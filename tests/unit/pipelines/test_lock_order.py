"""dvc.lock's order, whatever order stages finished in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lock_order import is_unsettled, note_order, settle_order, stage_order

ENTRY = """\
    cmd: 'true'
    outs:
    - path: {0}
      hash: md5
      md5: 60b725f10c9c85c70d97880dfe8191b3
      size: 2
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def write_lock(root: Path, names: list[str]) -> None:
    text = "schema: '2.0'\nstages:\n" + "".join(f"  {name}:\n{ENTRY.format(name)}" for name in names)
    (root / "dvc.lock").write_text(text)


def test_new_stages_follow_the_plan_after_those_that_were_there(root: Path) -> None:
    write_lock(root, ["old", "c", "a", "b"])
    settle_order(root, before=["old"], plan=["a", "b", "old", "c"])
    assert stage_order(root) == ["old", "a", "b", "c"]
    expected = (root / "dvc.lock").read_text()
    write_lock(root, ["old", "a", "b", "c"])
    assert (root / "dvc.lock").read_text() == expected


def test_a_killed_run_leaves_the_order_before_it_to_the_next(root: Path) -> None:
    write_lock(root, ["old"])
    assert note_order(root) == ["old"]
    write_lock(root, ["old", "c", "a"])  # killed here
    assert is_unsettled(root)
    before = note_order(root)
    write_lock(root, ["old", "c", "a", "b"])
    settle_order(root, before, plan=["a", "b", "c", "old"])
    assert stage_order(root) == ["old", "a", "b", "c"]
    assert not is_unsettled(root)


def test_file_is_left_alone_when_in_order_or_missing(root: Path) -> None:
    settle_order(root, before=[], plan=["a"])
    assert not (root / "dvc.lock").exists()
    write_lock(root, ["a", "b"])
    before = (root / "dvc.lock").stat().st_ino
    settle_order(root, before=[], plan=["a", "b"])
    assert (root / "dvc.lock").stat().st_ino == before
