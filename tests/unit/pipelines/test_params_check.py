"""What the check finds in params.yaml before anything runs: blocks that only tasks, readers and passes can read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.params import Params
from pipelines.params_check import check_params
from tests.workspace import tiny_params

DIGESTS = {f"{split}.{side}": "0" * 64 for split in ("train", "dev", "test") for side in ("en", "ja")}
Change = Callable[[dict[str, Any]], object]


def passes(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["students"]["tiny-student"]["passes"][0]
    return found


CHANGES: dict[str, tuple[Change, str]] = {
    "reader": (
        lambda v: v["datasets"]["tiny-pairs"]["split"].update(reader="paralel_text"),
        "datasets.tiny-pairs.split.reader: no such reader 'paralel_text', did you mean parallel_text?",
    ),
    "split": (
        lambda v: v["datasets"]["tiny-pairs"]["split"].update(trian=3),
        "datasets.tiny-pairs.split.trian: unknown key",
    ),
    "search": (
        lambda v: passes(v)["distill"].update(sequence={"beem": 2}),
        "students.tiny-student.passes.0.distill.sequence.beem: unknown key, did you mean beam?",
    ),
    "limit": (
        lambda v: v["stages"].update(timeout_s={"trian": 5}),
        "stages.timeout_s.trian: no such stage, did you mean train?",
    ),
    "blocks": (
        lambda v: (
            v["students"]["tiny-student"]["passes"].append({"quantize_aware": {"bits": 4}}),
            v["variants"].update(
                fine={
                    "recipe": "tiny",
                    "from": "tiny-student",
                    "precision": "int4",
                    "quantize": {"method": "weight_only", "bits": 4, "block": 16},
                }
            ),
        ),
        "variants.fine.quantize.block: 16, but tiny-student was trained in 32",
    ),
    "train": (
        lambda v: v["recipes"]["tiny"]["train"].update(epoch=5),
        "recipes.tiny.train.epoch: unknown key, did you mean epochs?",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_mistake_is_named_with_its_key(name: str) -> None:
    change, message = CHANGES[name]
    values = copy.deepcopy(tiny_params(DIGESTS))
    values.setdefault("stages", {})
    change(values)
    with pytest.raises(ConfigError) as error:
        check_params(parse_config(Params, values, ""))
    assert message in str(error.value)


def test_limits_of_stages_of_ones_own_and_of_one_key_are_accepted() -> None:
    values = copy.deepcopy(tiny_params(DIGESTS))
    values["stages"] = {"timeout_s": {"publish": 5, "train@tiny": 9}}
    check_params(parse_config(Params, values, ""))
