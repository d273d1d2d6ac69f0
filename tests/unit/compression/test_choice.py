"""Which units stay: by rank, by threshold, in round numbers."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.compression.choice import check_kinds, choose, reach_threshold, round_up
from components.core.errors import ConfigError
from components.models.pruning_groups import Member, PruningGroup

GROUPS = [PruningGroup("ffn", "ffn", (layer,), 4, (Member("w", 0),)) for layer in range(2)]
IMPORTANCE = [torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([5.0, 0.0, 7.0, 8.0])]
ALL = [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_importance_decides_across_layers_and_every_layer_keeps_one() -> None:
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.5}) == [[3], [0, 2, 3]]
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.99}) == [[3], [3]]
    assert choose(GROUPS, IMPORTANCE, {}) == ALL


def test_a_layer_loses_no_more_than_max_ratio_and_others_give_what_it_keeps() -> None:
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.5}, max_ratio=0.5) == [[2, 3], [2, 3]]
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.5}, max_ratio=0.75) == [[3], [0, 2, 3]]
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.25}, max_ratio=0.25) == [[1, 2, 3], [0, 2, 3]]


@given(
    importance=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=16), min_size=1, max_size=4),
    fraction=st.floats(0, 0.95),
    max_ratio=st.floats(0.05, 1),
)
def test_the_fraction_goes_wherever_the_layers_may_lose_it(
    importance: list[list[float]], fraction: float, max_ratio: float
) -> None:
    groups = [PruningGroup("ffn", "ffn", (i,), len(row), (Member("w", 0),)) for i, row in enumerate(importance)]
    kept = choose(groups, [torch.tensor(row) for row in importance], {"ffn": fraction}, max_ratio=max_ratio)
    least = [max(1, len(row) - int(max_ratio * len(row))) for row in importance]
    total = sum(map(len, importance))
    assert all(len(rows) >= floor for rows, floor in zip(kept, least, strict=True))
    assert sum(map(len, kept)) == max(total - round(fraction * total), sum(least))


def test_each_layer_gives_the_same_share_when_the_scope_is_the_layer() -> None:
    assert choose(GROUPS, IMPORTANCE, {"ffn": 0.5}, "layer") == [[2, 3], [2, 3]]


@pytest.mark.parametrize("scope", ["global", "layer"])
@given(units=st.integers(2, 64), rounds=st.integers(1, 4), multiple=st.sampled_from([1, 4, 8]))
def test_rounds_reach_the_fraction_together_whatever_is_rounded_up_between(
    scope: Literal["global", "layer"], units: int, rounds: int, multiple: int
) -> None:
    left = units
    for number in range(1, rounds + 1):
        group = PruningGroup("ffn", "ffn", (0,), left, (Member("w", 0),))
        importance = [torch.arange(left).float()]
        gone = {"ffn": 1 - 0.5 ** (number / rounds)}
        (kept,) = round_up(choose([group], importance, gone, scope, [units]), importance, multiple)
        left = len(kept)
    wanted = units - round(0.5 * units)
    assert left == min(units, -(-wanted // multiple) * multiple)


def test_units_below_the_threshold_go_and_the_strongest_stays_when_all_are_below() -> None:
    squares = [values**2 for values in IMPORTANCE]
    assert reach_threshold(GROUPS, squares, {"ffn": 0.25}) == [[2, 3], [0, 2, 3]]
    assert reach_threshold(GROUPS, squares, {"ffn": 6.0}) == [[3], [2, 3]]
    assert reach_threshold(GROUPS, squares, {"heads": 6.0}) == ALL


@given(units=st.integers(1, 40), multiple=st.integers(1, 12), data=st.data())
def test_rounding_up_takes_back_the_most_important_units(units: int, multiple: int, data: st.DataObject) -> None:
    importance = torch.tensor(data.draw(st.permutations(range(units)))).float()
    rows = sorted(data.draw(st.sets(st.integers(0, units - 1), min_size=1)))
    (kept,) = round_up([rows], [importance], multiple)
    assert set(rows) <= set(kept)
    assert kept == sorted(set(kept))
    assert len(kept) == units or (len(kept) % multiple == 0 and len(kept) - len(rows) < multiple)
    back, gone = set(kept) - set(rows), set(range(units)) - set(kept)
    assert all(importance[b] > importance[g] for b in back for g in gone)


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ({"fn": 0.5}, "prune.remove.fn: this model has ffn, did you mean ffn"),
        ({"ffn": 1.0}, r"prune.remove.ffn: 1.0 is not in \[0, 1\)"),
        ({"ffn": -0.1}, "prune.remove.ffn: -0.1"),
    ],
)
def test_impossible_request_is_refused(remove: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_kinds(GROUPS, remove, most=1.0)
