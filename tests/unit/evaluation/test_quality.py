"""The gate behind `evaluate`, and a variant's share of its teacher, for metrics that rise and that fall."""

from __future__ import annotations

import pytest

from components.core.errors import ProofError
from components.core.task import Metric
from components.core.tolerance import tolerance_for
from components.evaluation.quality import check_quality, share_of_teacher

BLEU, ERROR = Metric("bleu", "max"), Metric("mse", "min")
LIMIT = tolerance_for("int8", {"quality_drop": 0.02}, "t")


@pytest.mark.parametrize(
    ("metric", "name", "torch", "variant"),
    [
        (BLEU, "bleu_beam4", 40.0, 39.21),
        (BLEU, "bleu_beam4", 40.0, 44.0),
        (ERROR, "mse", 0.50, 0.509),
        (ERROR, "mse", 0.5, 0.1),
    ],
)
def test_variant_within_its_tolerance_passes(metric: Metric, name: str, torch: float, variant: float) -> None:
    check_quality(metric, {"dev": {name: variant}}, {"dev": {name: torch}}, LIMIT)


@pytest.mark.parametrize(
    ("metric", "name", "torch", "variant"), [(BLEU, "bleu_beam4", 40.0, 39.19), (ERROR, "mse", 0.50, 0.511)]
)
def test_variant_beyond_its_tolerance_is_refused_with_both_numbers(
    metric: Metric, name: str, torch: float, variant: float
) -> None:
    with pytest.raises(
        ProofError, match=rf"dev {name} {variant:.2f} is 2\.\d% worse .* {torch:.2f}; 2\.0% are allowed"
    ):
        check_quality(metric, {"dev": {name: variant}}, {"dev": {name: torch}}, LIMIT)


def test_only_the_same_protocol_is_compared() -> None:
    check_quality(BLEU, {"dev": {"bleu_greedy": 1.0}}, {"dev": {"bleu_beam4": 40.0}}, LIMIT)


def test_share_of_the_teacher_is_above_one_when_the_variant_is_better_in_either_direction() -> None:
    teacher = {"dev": {"bleu_greedy": 35.0, "bleu_beam4": 40.0, "mse": 0.5}}
    assert share_of_teacher(BLEU, {"dev": {"bleu_beam4": 30.0}}, teacher) == ("bleu_beam4", 0.75)
    assert share_of_teacher(ERROR, {"dev": {"mse": 0.4}}, teacher) == ("mse", 1.25)
