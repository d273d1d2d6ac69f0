"""What an exported variant is worth: the task's metric on dev and test, against its torch model and the teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from components.core.errors import ModelpressError, ProofError
from components.core.task import Metric, Task, TaskDataset
from components.core.tolerance import Tolerance

Scores = Mapping[str, Mapping[str, float]]  # split -> metric -> value


def score_splits(task: Task, predictor: Any, splits: Mapping[str, TaskDataset]) -> dict[str, dict[str, float]]:
    """Return {split: {metric: value}} of a predictor.

    Raises:
        ModelpressError: a value is not finite.
    """
    return {name: _rounded(task.score(predictor, examples)) for name, examples in splits.items()}


def score_torch_model(
    task: Task, model: Any, predictors: Mapping[str, Any], splits: Mapping[str, TaskDataset]
) -> dict[str, dict[str, float]]:
    """Return {split: {metric: value}} of a torch model: under every way of answering, and what only torch can tell."""
    return {
        name: _rounded(
            {
                **task.score_model(model, examples),
                **{k: v for predictor in predictors.values() for k, v in task.score(predictor, examples).items()},
            }
        )
        for name, examples in splits.items()
    }


def check_quality(metric: Metric, quality: Scores, own_torch: Scores, tolerance: Tolerance) -> None:
    """Compare a variant with the torch model it was exported from, on dev.

    Raises:
        ProofError: the metric lost more than the tolerance, or there is nothing to compare it with.
    """
    scores = judged(metric, quality["dev"])
    if not scores:
        raise ProofError(f"dev has no {metric.name}: nothing proves the variant; found: {', '.join(quality['dev'])}")
    for name, value in scores.items():
        expected = own_torch["dev"].get(name)
        if expected is None:
            raise ProofError(f"{name}: the torch model has no such score to compare with")
        loss = relative_loss(metric, value, expected)
        if loss > tolerance.quality_drop:
            raise ProofError(
                f"dev {name} {value:.4g} is {loss:.1%} worse than the torch model's {expected:.4g}; "
                f"{tolerance.quality_drop:.1%} are allowed"
            )


def judged(metric: Metric, scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores that are the metric, under whatever protocol; what stands beside it may have another mode."""
    return {name: value for name, value in scores.items() if name.startswith(metric.name)}


def relative_loss(metric: Metric, value: float, expected: float) -> float:
    """Return which part of the expected value is lost: below zero where the value is better, all there is of a zero."""
    lost = (expected - value) * (1 if metric.mode == "max" else -1)
    if not expected:
        return math.inf if lost > 0 else 0.0
    return lost / abs(expected)


def share_of_teacher(metric: Metric, quality: Scores, teacher: Scores, split: str = "dev") -> tuple[str, float]:
    """Return the variant's metric name and its share of the teacher's quality under the same protocol (1 is as good).

    Of an error, less of which is better, the share is the teacher's over the variant's.

    Raises:
        ModelpressError: the teacher was not scored under this protocol.
    """
    (name,) = judged(metric, quality[split])
    if name not in teacher[split]:
        raise ModelpressError(f"{name}: the teacher has no such score to compare with")
    own, reference = quality[split][name], teacher[split][name]
    if metric.mode == "min":
        own, reference = reference, own
    return name, round(own / reference, 4) if reference else 0.0


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ModelpressError(
                f"{name} is {value}: the model has diverged; lower train.learning_rate or set train.clip"
            )
    return {name: round(float(value), 4) for name, value in scores.items()}
