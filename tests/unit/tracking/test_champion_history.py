from __future__ import annotations

import pytest

from components.tracking.champion_history import Move, as_tag, live_periods, live_stack, read_moves


def moves(*steps: str) -> list[Move]:
    actions = {"p": "promote", "r": "rollback"}
    return [Move(actions[step[0]], int(step[1:]), f"t{index}") for index, step in enumerate(steps)]


@pytest.mark.parametrize(
    ("steps", "champion", "stack"),
    [
        ([], None, []),
        (["p1"], 1, [1]),
        (["p1", "p2", "p3"], 3, [1, 2, 3]),
        (["p1", "p2", "r1", "p3"], 3, [1, 3]),
        (["p1", "p2", "r1"], 2, [1, 2]),  # a rollback killed before the alias moved
        (["p1", "p2"], 1, [1]),  # a promotion killed before the alias moved
        (["p1", "p2"], 9, [1, 2, 9]),  # the alias set by hand
        (["p1", "p2", "p1"], 1, [1, 2, 1]),
        (["p1"], None, []),  # the alias removed by hand
    ],
)
def test_live_stack_follows_the_moves_but_the_alias_wins(steps, champion, stack) -> None:
    assert live_stack(moves(*steps), champion) == stack


def test_live_periods_end_where_the_next_begins() -> None:
    assert live_periods(moves("p1", "p2", "r1"), 1) == {
        1: [{"from": "t0", "to": "t1"}, {"from": "t2", "to": None}],
        2: [{"from": "t1", "to": "t2"}],
    }


def test_live_periods_leave_out_a_move_that_never_happened() -> None:
    assert live_periods(moves("p1", "p2"), 1) == {1: [{"from": "t0", "to": None}]}


def test_moves_come_back_in_order_from_the_tags_they_were_written_to() -> None:
    history = moves(*(f"p{number}" for number in range(12)))
    tags = dict(reversed([as_tag(move, number) for number, move in enumerate(history)]))
    assert read_moves({**tags, "unrelated": "x"}) == history
