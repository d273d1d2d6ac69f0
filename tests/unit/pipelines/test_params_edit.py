"""`--set`: values changed in place, comments kept, all or nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.core.errors import ModelpressError
from pipelines.params_edit import set_params

TEXT = """\
# what a run does
default: [one]                 # recipes
recipes:
  one:
    train: {epochs: 5, rate: 2.0e-3, precision: "32"}   # quick
    passes:
      - prune: {heads: 0.25}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    return path


def accept(text: str) -> None:
    pass


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("a: [1", "not valid YAML"), ("a: 1\na: 2\n", "not valid YAML: 'a' stands twice")],
)
def test_file_that_can_not_be_read_is_one_clear_line(path: Path, text: str | None, message: str) -> None:
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelpressError, match=message):
        set_params(path, ["a=1"], accept)


def test_set_changes_only_the_value_when_the_key_exists(path: Path) -> None:
    changes = set_params(path, ["recipes.one.train.epochs=3", "recipes.one.passes.0.prune.heads=0.5"], accept)
    assert [str(change) for change in changes] == ["recipes.one.train.epochs: 5 -> 3",
                                                   "recipes.one.passes.0.prune.heads: 0.25 -> 0.5"]  # fmt: skip
    assert path.read_text() == TEXT.replace("epochs: 5", "epochs: 3").replace("0.25", "0.5")


def test_set_types_values_as_yaml(path: Path) -> None:
    set_params(
        path, ["default=[one, two]", "recipes.one.train.rate=1.0e-4", "recipes.one.train.precision=bf16"], accept
    )
    text = path.read_text()
    assert "default: [one, two]            # recipes" in text
    assert 'rate: 1.0e-4, precision: "bf16"' in text


def test_set_adds_a_key_that_had_its_default(path: Path) -> None:
    (change,) = set_params(path, ["recipes.one.train.warmup=30"], accept)
    assert str(change) == "recipes.one.train.warmup: default -> 30"
    assert re.search(r'precision: "32", warmup: 30} +# quick', path.read_text())


def test_set_adds_a_block_that_had_its_default(path: Path) -> None:
    (change,) = set_params(path, ["recipes.one.budget.max_size_mb=3"], accept)
    assert str(change) == "recipes.one.budget.max_size_mb: default -> 3"
    assert yaml.safe_load(path.read_text())["recipes"]["one"]["budget"] == {"max_size_mb": 3}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("recipes.tow.train=3", "recipes.tow: no such key"),
        ("recipes.one.train.epochs.x=3", "recipes.one.train.epochs.x: no such key"),
        ("recipes.one.passes.1.prune=3", "recipes.one.passes.1: no such key"),
        ("recipes.one.train.epochs", "write key=value"),
        ("recipes.one.train.epochs=[", "not a YAML value"),
    ],
)
def test_set_writes_nothing_when_an_assignment_is_wrong(path: Path, assignment: str, message: str) -> None:
    with pytest.raises(ModelpressError, match=re.escape(message)) as error:
        set_params(path, ["recipes.one.train.rate=1", assignment], accept)
    assert len(str(error.value).splitlines()) == 1
    assert path.read_text() == TEXT


def test_set_writes_nothing_when_the_check_refuses(path: Path) -> None:
    def refuse(text: str) -> None:
        assert "epochs: x" in text
        raise ModelpressError("epochs: not a number")

    with pytest.raises(ModelpressError, match="not a number"):
        set_params(path, ["recipes.one.train.epochs=x"], refuse)
    assert path.read_text() == TEXT
