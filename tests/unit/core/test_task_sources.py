"""The files that make a task: those it imports, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.task_sources import task_sources

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "tasks/sums.py": "from components.core.task import Task\nfrom components.models import cells, missing\n",
        "inference/sums.py": "import components.inference.predictor\n",
        "inference/predictor.py": "",
        "models/cells.py": "def late():\n    from components.models.gates import gate\n",
        "models/gates.py": "from components.models.cells import late\n",
        "models/other.py": "",
        "core/task.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "components" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_sources_are_what_the_task_and_its_predictor_import_however_deep(root: Path) -> None:
    names = [path.as_posix() for path in task_sources("sums", "sums", root)]
    assert names == [
        "components/inference/sums.py",
        "components/models/cells.py",
        "components/models/gates.py",
        "components/tasks/sums.py",
    ]


def test_predictor_of_another_name_is_a_source_of_the_task(root: Path) -> None:
    (root / "components" / "inference" / "shared.py").write_text("", encoding="utf-8")
    names = [path.name for path in task_sources("sums", "shared", root)]
    assert names == ["shared.py", "cells.py", "gates.py", "sums.py"]


def test_sources_of_translation_hold_both_its_architectures() -> None:
    names = {path.name for path in task_sources("translation", "translation", REPOSITORY)}
    assert {"translation.py", "transformer.py", "rnn.py", "decoding.py", "fast_ops.py", "tokenizers.py"} <= names


def test_sources_hold_what_batches_and_scores_are_made_by() -> None:
    names = {path.name for path in task_sources("translation", "translation", REPOSITORY)}
    assert {"parallel_dataset.py", "bleu.py"} <= names
    assert "image_augmentation.py" not in names
