"""Which outputs belong to nothing in params.yaml any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import ModelpressError
from components.core.params import Params
from pipelines.cli import clean
from pipelines.orphans import orphans, orphans_in_words, remove
from pipelines.takeover import only_flow
from tests.workspace import tiny_params

DVC = {
    "train": {"foreach": "${recipes}", "do": {}},
    "compress": {"foreach": "${students}", "do": {}},
    "export": {"foreach": "${variants}", "do": {}},
    "listed": {"foreach": ["a"], "do": {}},
    "single": {"cmd": "x"},
}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, str]:
    """Stages and what each made; the folder holds all of it."""
    outputs = {
        "train@tiny": "models/tiny",
        "train@old": "models/old",
        "compress@tiny-student": "models/tiny-student",
        "export@tiny-int8": "exports/tiny/tiny-int8",
        "export@old-int8": "exports/old/old-int8",
        "listed@a": "a.txt",
        "listed@b": "b.txt",
        "single": "one.txt",
        "forgotten": "forgotten.txt",
        "moved": "exports/tiny",  # around what a present stage makes
        "outside": "../elsewhere.txt",
        "lost": "lost.txt",
    }
    for name, path in outputs.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if name == "moved" or "." not in place.name:
            place.mkdir(exist_ok=True)
            (place / "model").write_text(name)
        elif name != "lost":
            place.write_text(name)
    lock = {name: {"cmd": "x", "outs": [{"path": path}]} for name, path in outputs.items()}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": DVC}))
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    return outputs


def params(**without: str) -> Params:
    raw: dict[str, Any] = tiny_params({"train.en": "0" * 64})
    for kind, name in without.items():
        del raw[kind][name]
    return Params.model_validate(raw)


def test_outputs_of_stages_that_are_no_more_are_found_and_no_others(tmp_path: Path, made: dict[str, str]) -> None:
    always = {"models/old", "exports/old/old-int8", "b.txt", "forgotten.txt"}
    assert set(orphans(tmp_path, params())) == always
    assert set(orphans(tmp_path, params(students="tiny-student"))) == {*always, "models/tiny-student"}


def test_nothing_is_an_orphan_before_the_first_run(tmp_path: Path) -> None:
    assert orphans(tmp_path, params()) == []


def test_removal_takes_emptied_folders_and_leaves_what_a_user_put_there(tmp_path: Path, made: dict[str, str]) -> None:
    (tmp_path / "models" / "mine").mkdir()
    remove(tmp_path, orphans(tmp_path, params()))
    assert orphans(tmp_path, params()) == []
    assert not (tmp_path / "exports/old").exists()
    for kept in ("models/mine", "models/tiny/model", "exports/tiny/tiny-int8/model", "a.txt", "../elsewhere.txt"):
        assert (tmp_path / kept).exists()


def test_nothing_is_removed_beside_a_running_flow(
    tmp_path: Path, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params({"train.en": "0" * 64})))
    monkeypatch.chdir(tmp_path)
    with only_flow(tmp_path, "mine"), pytest.raises(ModelpressError, match="another run is going on here"):
        clean(yes=True)
    assert (tmp_path / "models/old").exists()
    clean(yes=True)
    assert not (tmp_path / "models/old").exists()


def test_many_orphans_are_told_in_one_line() -> None:
    assert orphans_in_words(["a", "b", "c"]).count("\n") == 0
    assert "still here: a, b and 1 more; `modelpress clean`" in orphans_in_words(["a", "b", "c"])
    assert "still here: a; " in orphans_in_words(["a"])
