"""Numbers in, the name of their class out: the predictor of any task that tells rows of so many numbers apart.

Such a task names it (`predictor = "number_labels"`), exports the graph below and writes `assets/classes.json`:
{"numbers": how many a row has, "labels": the classes' names in the order of their ids}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.predictor import Predictor
from components.inference.session import Session


class NumberLabelPredictor(Predictor):
    """The graph "classify": `values` float32 (B, N) -> `label` int64 (B,), `probability` float32 (B, classes)."""

    unit = "rows"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        facts = json.loads((assets / "classes.json").read_text(encoding="utf-8"))
        self._labels, self._numbers = facts["labels"], facts["numbers"]

    def predict(self, inputs: list[str]) -> list[str]:
        """Return the class of each row, given as its numbers with spaces between.

        Raises:
            ModelpressError: another count of numbers, or something that is no finite number.
        """
        if not inputs:
            return []
        values_BN = np.array([self._row(text) for text in inputs], np.float32)
        (label_B,) = self.sessions["classify"].run(["label"], {"values": values_BN})
        return [self._labels[label] for label in label_B]

    def count_units(self, answers: list[str]) -> int:
        """Return the number of rows."""
        return len(answers)

    def _row(self, text: str) -> list[float]:
        try:
            row = [float(word) for word in text.split()]
        except ValueError as error:
            raise ModelpressError(f"{text[:40]!r}: {error}; give {self._numbers} numbers with spaces between") from None
        if len(row) != self._numbers or not np.isfinite(row).all():
            raise ModelpressError(
                f"{text[:40]!r}: {len(row)} numbers; give {self._numbers} finite ones, spaces between"
            )
        return row


PREDICTOR = NumberLabelPredictor
