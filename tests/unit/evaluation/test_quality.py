"""A variant beside its torch model and the teacher, by a score and by an error."""

from __future__ import annotations

from typing import Any

import pytest

from components.core.errors import ModelpressError, ProofError
from components.core.task import Metric
from components.core.tolerance import tolerance_for
from components.evaluation.quality import check_quality, score_splits, share_of_teacher

ACCURACY, MSE = Metric("accuracy", "max", "%"), Metric("mse", "min")
ONE_PERCENT = tolerance_for("int8", {"quality_drop": 0.01}, "t")


def dev(**values: float) -> dict[str, dict[str, float]]:
    return {"dev": values}


@pytest.mark.parametrize(("value", "passes"), [(0.35, True), (0.403, True), (0.405, False), (0.8, False)])
def test_error_may_grow_by_the_tolerance_and_shrink_freely(value: float, passes: bool) -> None:
    if passes:
        check_quality(MSE, dev(mse=value), dev(mse=0.4), ONE_PERCENT)
        return
    with pytest.raises(ProofError, match=rf"dev mse {value:g} is .*% worse than the torch model's 0\.4; 1\.0% are"):
        check_quality(MSE, dev(mse=value), dev(mse=0.4), ONE_PERCENT)


@pytest.mark.parametrize(("value", "passes"), [(95.0, True), (89.2, True), (89.0, False)])
def test_score_may_shrink_by_the_tolerance_and_grow_freely(value: float, passes: bool) -> None:
    if passes:
        check_quality(ACCURACY, dev(accuracy=value), dev(accuracy=90.0), ONE_PERCENT)
        return
    with pytest.raises(ProofError, match=r"dev accuracy 89 is 1\.1% worse"):
        check_quality(ACCURACY, dev(accuracy=value), dev(accuracy=90.0), ONE_PERCENT)


def test_share_of_the_teacher_is_below_one_when_the_variant_is_worse() -> None:
    assert share_of_teacher(ACCURACY, dev(accuracy=81.0), dev(accuracy=90.0)) == ("accuracy", 0.9)
    assert share_of_teacher(MSE, dev(mse=0.5, mae=0.1), dev(mse=0.4, mae=0.1)) == ("mse", 0.8)


def test_protocol_the_teacher_was_not_scored_under_is_a_clear_error() -> None:
    with pytest.raises(ModelpressError, match=r"^bleu_beam8: the teacher has no such score"):
        share_of_teacher(Metric("bleu"), dev(bleu_beam8=40.0), dev(bleu_beam4=40.0))


def test_only_the_same_protocol_is_compared() -> None:
    check_quality(Metric("bleu"), dev(bleu_greedy=36.0), dev(bleu_greedy=36.0, bleu_beam4=40.0), ONE_PERCENT)


def test_variant_is_refused_when_nothing_was_compared() -> None:
    with pytest.raises(ProofError, match=r"^bleu_beam6: the torch model has no such score"):
        check_quality(Metric("bleu"), dev(bleu_beam6=40.0), dev(bleu_beam4=40.0), ONE_PERCENT)
    with pytest.raises(ProofError, match=r"^dev has no accuracy"):
        check_quality(ACCURACY, dev(loss=1.0), dev(accuracy=90.0), ONE_PERCENT)


def test_score_that_is_not_finite_is_a_clear_error() -> None:
    class Diverged:
        def score(self, predictor: Any, examples: Any) -> dict[str, float]:
            return {"mse": float("nan")}

    with pytest.raises(ModelpressError, match=r"^mse is nan: the model has diverged; lower train.learning_rate"):
        score_splits(Diverged(), None, {"dev": None})  # type: ignore[arg-type]
