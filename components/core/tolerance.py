"""How far an exported variant may stray from its torch model before it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from components.core.config import Config, parse_config


class Tolerance(Config):
    """Stated limits; `variants.<name>.tolerance` overrides single ones."""

    max_abs_diff: float = Field(gt=0, description="largest difference of any float the graph computes or carries")
    agreement: float = Field(ge=0, le=1, description="smallest share of answers equal to the torch model's")
    relative_difference: float = Field(
        gt=0, description="where answers are floats: largest root mean square difference, as a share of their spread"
    )
    quality_drop: float = Field(ge=0, description="largest relative loss of the task's metric on dev")


# fp32 may differ by the order of sums alone; int8 changes single answers, so it is held to the task's metric.
# Where a search is near a tie, fp16 takes another path too: the 5 % of answers it may change move BLEU on 500 sentences
# by up to a percent either way.
_DEFAULTS = {
    "fp32": {"max_abs_diff": 2e-3, "agreement": 0.99, "relative_difference": 1e-3, "quality_drop": 0.002},
    "fp16": {"max_abs_diff": 0.25, "agreement": 0.95, "relative_difference": 0.02, "quality_drop": 0.015},
    "int8": {"max_abs_diff": 1e9, "agreement": 0.5, "relative_difference": 0.25, "quality_drop": 0.02},
    "int4": {"max_abs_diff": 1e9, "agreement": 0.5, "relative_difference": 0.25, "quality_drop": 0.02},
}


def tolerance_for(precision: str, overrides: Mapping[str, float], where: str) -> Tolerance:
    """Return a precision's limits with a variant's own on top.

    Raises:
        ConfigError: an unknown limit at `where`.
    """
    return parse_config(Tolerance, {**_DEFAULTS[precision], **overrides}, where)
