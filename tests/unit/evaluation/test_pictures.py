"""A classifier's own pictures in the report: the confusion matrix counts, the surest mistakes come first."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from components.core.task import task_names
from components.evaluation import pictures
from components.evaluation.charts.confusion import confusion
from components.evaluation.pictures import has_pictures, task_pictures

ANSWERS = [("cat", 0.9), ("dog", 0.6), ("dog", 0.95), ("<b>", 0.7)]


class Sure:
    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": label, "probabilities": {label: share}} for label, share in ANSWERS]


class Animals:
    def inputs(self) -> list[str]:
        return [f"data:image/png;base64,AAA{number}" for number in range(4)]

    def references(self) -> list[str]:
        return ["cat", "cat", "cat", "dog"]


def test_confusion_counts_each_class_against_what_it_was_called() -> None:
    counts = confusion(["a", "b"], ["a", "a", "b"], ["a", "b", "b"])
    np.testing.assert_array_equal(counts, [[1, 1], [0, 1]])


def test_surest_mistakes_come_first_and_names_are_escaped() -> None:
    matrix, mistakes = task_pictures("image_classification", Sure(), Animals())
    assert "3 of 4 test pictures are labelled wrong" in matrix.caption
    assert re.findall(r"AAA(\d)", mistakes.body) == ["2", "3", "1"]
    assert "<b>" not in mistakes.body.replace('<b class="miss">', "")


def test_every_module_of_pictures_belongs_to_a_task() -> None:
    from pathlib import Path

    names = {path.stem for path in Path(pictures.__file__).parent.glob("*.py")} - {"__init__"}
    assert names <= set(task_names())
    assert not has_pictures("translation")
