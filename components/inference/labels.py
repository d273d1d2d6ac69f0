"""What a classifier answers: the most probable class, and how probable the best few are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOP = 5  # labels of an answer
DIGITS = 4  # of a probability: more would differ between two machines' sums


def read_labels(assets: Path) -> list[str]:
    """Return the classes' names, by their number."""
    return (assets / "labels.txt").read_text(encoding="utf-8").splitlines()


def most_probable(labels: Sequence[str], label: int, probability_C: np.ndarray) -> dict[str, Any]:
    """Return {"label", "probabilities": {label: probability}, the five most probable ones}."""
    best = np.argsort(-probability_C, kind="stable")[:TOP]
    probabilities = {labels[i]: round(float(probability_C[i]), DIGITS) for i in best}
    return {"label": labels[label], "probabilities": probabilities}
