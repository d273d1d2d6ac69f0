"""Estimates of the time left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.durations import Durations, longest_chains, share_done, spoken, stage_time_left, time_left
from tests.unit.pipelines.test_schedule import GRAPHS, names


@pytest.mark.parametrize(
    ("line", "share"),
    [("progress 3/10 epochs", 0.3), ("  progress 2.5/5", 0.5), ("progress 7/5", 1.0), ("progress 1/0", None),
     ("in progress", None), ("progress x/3", None)],
)  # fmt: skip
def test_share_done_reads_progress_lines(line: str, share: float | None) -> None:
    assert share_done(line) == share


def test_durations_survive_and_stand_in_for_their_family(tmp_path: Path) -> None:
    Durations(tmp_path).record("train@a", 10)
    Durations(tmp_path).record("train@b", 20)
    again = Durations(tmp_path)
    assert again.expected("train@a") == 10
    assert again.expected("train@new") == 15
    assert again.expected("export@a") is None


def test_durations_start_empty_when_the_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / ".modelpress").mkdir()
    (tmp_path / ".modelpress" / "durations.json").write_text("{")
    assert Durations(tmp_path).expected("train@a") is None


def test_stage_time_left_trusts_progress_before_the_last_duration() -> None:
    assert stage_time_left(expected=100, elapsed=30, share=0.75) == 10
    assert stage_time_left(expected=100, elapsed=30, share=None) == 70
    assert stage_time_left(expected=10, elapsed=30, share=None) == 0
    assert stage_time_left(expected=None, elapsed=30, share=None) is None


def test_time_left_is_the_longest_chain_or_the_shared_work() -> None:
    graph = {"a": [], "b": ["a"], "c": [], "d": []}
    left = time_left(graph, {"a": 10.0, "b": 20.0, "c": 1.0, "d": 1.0}, jobs=2)
    assert left is not None
    assert left.seconds == 30
    left = time_left(graph, {"b": 20.0, "c": 30.0, "d": None}, jobs=2)
    assert left is not None
    assert (left.seconds, str(left)) == (30, "at least 30 s left")
    assert time_left(graph, {"a": None}, jobs=1) is None


def test_time_left_shares_out_nothing_that_runs_alone() -> None:
    remaining = {"train@a": 10.0, "train@b": 20.0, "export": 6.0}
    left = time_left({name: [] for name in remaining}, remaining, jobs=2, alone=lambda name: name.startswith("train"))
    assert left is not None
    assert left.seconds == 33


def test_spoken_rounds_as_one_says_it() -> None:
    assert [spoken(seconds) for seconds in (4.4, 63, 200, 7000)] == ["4 s", "63 s", "3 min", "1 h 57 min"]


@given(GRAPHS, st.lists(st.integers(0, 9), min_size=12, max_size=12))
def test_longest_chains_are_the_longest_of_all_ways_to_an_end(graph, lengths) -> None:  # type: ignore[no-untyped-def]
    depends_on = names(graph)
    seconds = {name: float(lengths[int(name[1:])]) for name in depends_on}

    def longest(name: str) -> float:
        dependents = [other for other, dependencies in depends_on.items() if name in dependencies]
        return seconds[name] + max(map(longest, dependents), default=0.0)

    assert longest_chains(depends_on, seconds) == {name: longest(name) for name in depends_on}
