"""Which recipe a stage belongs to, and the names a user gives."""

from __future__ import annotations

import pytest

from components.core.errors import ModelpressError
from components.core.params import Params
from pipelines.dag import PlannedStage, recipe_of, targets_of
from tests.workspace import tiny_params

DIGESTS = {f"{split}.{side}": "0" * 64 for split in ("train", "dev", "test") for side in ("en", "ja")}


@pytest.fixture
def params() -> Params:
    return Params.model_validate(tiny_params(DIGESTS))


@pytest.mark.parametrize(
    "name", ["train@tiny", "compress@tiny-student", "export@tiny-int8", "fetch@tiny-pairs", "hardware"]
)
def test_stage_belongs_to_the_recipe_of_its_key(params: Params, name: str) -> None:
    assert recipe_of(PlannedStage(name, (), True, False), params, ["tiny"]) == "tiny"


def test_stage_belongs_to_nobody_when_no_chosen_recipe_uses_it(params: Params) -> None:
    assert recipe_of(PlannedStage("fetch@other", (), True, False), params, ["tiny"]) is None


def test_targets_name_the_nearest_recipe_when_one_is_unknown(params: Params) -> None:
    assert targets_of(["tiny"], params) == ["report@tiny"]
    with pytest.raises(ModelpressError, match=r"no recipe 'tniy' in params.yaml, did you mean tiny"):
        targets_of(["tniy"], params)
