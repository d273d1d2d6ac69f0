"""Which sizes of a Transformer fit, told before anything is built."""

from __future__ import annotations

import pytest
import torch

from components.core.config import parse_config
from components.core.errors import ConfigError
from components.data.parallel_dataset import LONGEST
from components.models.positions import MAX_LENGTH, Mode, TokenEmbedding, sinusoids
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


def test_longest_sentence_fits_the_causal_mask_with_its_marks() -> None:
    assert LONGEST + 2 == MAX_LENGTH


def test_positions_are_the_papers_up_to_the_order_of_columns() -> None:
    found = sinusoids(torch.arange(MAX_LENGTH), 12)
    for pair in range(6):
        angle = torch.arange(MAX_LENGTH).double() / 10000 ** (2 * pair / 12)
        assert torch.allclose(found[:, pair], angle.sin().float(), atol=2e-5)
        assert torch.allclose(found[:, 6 + pair], angle.cos().float(), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mode", ["add", "concat"])
def test_one_token_gets_what_it_gets_within_a_sequence(mode: Mode, dtype: torch.dtype) -> None:
    embedding = TokenEmbedding(30, 16, mode, pad=0).to(dtype)
    ids_BL = torch.randint(1, 30, (3, MAX_LENGTH), generator=torch.Generator().manual_seed(0))
    whole = embedding(ids_BL)
    assert whole.dtype == dtype
    for place in (0, 1, 63, MAX_LENGTH - 1):
        torch.testing.assert_close(embedding.at(ids_BL[:, place, None], torch.tensor(place))[:, 0], whole[:, place])
