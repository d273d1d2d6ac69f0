"""Which sizes of a Transformer fit, told before anything is built."""

from __future__ import annotations

import pytest

from components.core.config import parse_config
from components.core.errors import ConfigError
from components.data.parallel_dataset import LONGEST
from components.models.positions import MAX_LENGTH
from components.tasks.translation import ModelConfig


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 300, "positions": "concat"}, "width: 300 is no multiple of 8"),
        ({"width": 33, "heads": 3}, "width: 33 is no multiple of 2"),
        ({"width": 8, "heads": 9}, r"heads: 1 to 8 \(width\) are possible, got 9"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(sizes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(ModelConfig, {"architecture": "transformer", **sizes}, "recipes.x.model")


def test_longest_sentence_fits_the_table_of_positions_with_its_marks() -> None:
    assert LONGEST + 2 == MAX_LENGTH
