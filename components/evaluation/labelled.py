"""A classifier's answers beside the right labels: how many are right, and which wrong ones it was surest of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Answers = Sequence[Mapping[str, Any]]  # {"label", "probabilities": {label: probability}}


def accuracy(answers: Answers, references: Sequence[str]) -> float:
    """Return the share of right labels in percent."""
    return 100 * float(np.mean([answer["label"] == wanted for answer, wanted in zip(answers, references, strict=True)]))


def surest_mistakes(answers: Answers, references: Sequence[str]) -> list[int]:
    """Return the numbers of all wrong answers, those with the highest probability first."""
    wrong = [i for i, (answer, wanted) in enumerate(zip(answers, references, strict=True)) if answer["label"] != wanted]
    return sorted(wrong, key=lambda i: -answers[i]["probabilities"][answers[i]["label"]])
