from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from components.core.errors import ModelpressError
from components.core.params import Budget
from components.evaluation.selection import p50_of, pareto_frontier, print_table, quality_of, select, shortfalls
from tests.unit.evaluation.made_up import latency, variant

BUDGET = Budget(max_size_mb=5, max_p50_ms=40, min_quality=0.95)


def choose(*rows: tuple[str, float, float, float], budget: Budget = BUDGET, **changes) -> dict:
    """Select among (name, quality, size in MB, p50 in ms)."""
    variants = [variant(name, quality, size, **changes) for name, quality, size, _ in rows]
    return select("toy", budget, variants, latency({name: p50 for name, *_, p50 in rows}))


def test_best_quality_within_the_budget_is_selected() -> None:
    selection = choose(("teacher", 38, 30, 20), ("good", 37.5, 4, 9), ("small", 36.5, 2, 3))
    assert selection["selected"] == "good"
    assert "Best quality of the 2 variants (of 3)" in selection["reason"]
    assert json.loads(json.dumps(selection)) == selection


def test_faster_variant_is_selected_when_qualities_tie() -> None:
    selection = choose(("slow", 37.6, 4, 9), ("fast", 37.5, 4.5, 3), ("worse", 36.5, 1, 1))
    assert selection["selected"] == "fast"
    assert "slow reaches 37.60 at 9.00 ms" in selection["reason"]


def test_smaller_variant_is_selected_when_quality_and_latency_tie() -> None:
    assert choose(("large", 37.5, 4, 3), ("small", 37.5, 3, 3))["selected"] == "small"


@pytest.mark.parametrize(
    ("size", "p50", "selected"),
    [(4.5, 9, "float"), (4, 3, "float"), (4.5, 2.8, "float"), (4.5, 2.5, "int8"), (3.9, 9, "int8")],
)
def test_variant_that_is_neither_smaller_nor_surely_faster_than_its_float_form_is_not_selected(
    size: float, p50: float, selected: str
) -> None:
    rows = [variant("float", 37.0, 4), variant("int8", 37.4, size, precision="int8")]
    selection = select("toy", BUDGET, rows, latency({"float": 3, "int8": p50}))
    assert selection["selected"] == selected
    assert ("Left out, neither smaller nor faster than what they were made from: int8." in selection["reason"]) == (
        selected == "float"
    )


@pytest.mark.parametrize(
    ("gain", "size", "p50", "gains"),
    [("faster", 3, 3, False), ("faster", 5, 2.5, True), ("smaller", 3, 9, True), ("smaller", 4.5, 1, False)],
)
def test_a_recipe_says_what_counts_as_a_gain(gain: str, size: float, p50: float, gains: bool) -> None:
    budget = BUDGET.model_copy(update={"gain": gain})
    rows = [variant("float", 37.0, 4), variant("int8", 37.4, size, precision="int8")]
    selection = select("toy", budget, rows, latency({"float": 3, "int8": p50}))
    assert selection["selected"] == ("int8" if gains else "float")


def test_a_variant_gains_on_the_float_form_that_answers_in_the_same_way() -> None:
    greedy = {"metric": "bleu_greedy", "quality": {"dev": {"bleu_greedy": 36.0}, "test": {"bleu_greedy": 36.0}}}
    rows = [
        variant("beam", 38.0, 4),
        variant("beam-int8", 38.0, 4, precision="int8"),
        {**variant("greedy", 36.0, 4), **greedy},
    ]
    timings = latency({"beam": 20, "beam-int8": 10, "greedy": 5})
    budget = BUDGET.model_copy(update={"gain": "faster"})
    assert "Left out" not in select("toy", budget, rows, timings)["reason"]


def test_a_students_variant_gains_on_the_teacher_where_its_own_float_form_is_not_there() -> None:
    rows = [variant("teacher", 37.0, 4, parent="toy"), variant("int8", 37.0, 4, parent="light", precision="int8")]
    budget = BUDGET.model_copy(update={"gain": "faster"})
    assert select("toy", budget, rows, latency({"teacher": 3, "int8": 3}))["selected"] == "teacher"
    assert select("toy", budget, rows, latency({"teacher": 3, "int8": 2}))["selected"] == "int8"


def test_a_better_student_needs_no_other_gain() -> None:
    rows = [variant("teacher", 37.0, 4), variant("student", 38.0, 4, parent="toy-student")]
    assert select("toy", BUDGET, rows, latency({"teacher": 3, "student": 3}))["selected"] == "student"


def test_a_variant_gains_on_what_it_was_made_from_though_that_is_over_the_budget() -> None:
    rows = [variant("teacher", 38.0, 9, parent="toy"), variant("student", 38.0, 4, parent="toy-student")]
    timings = latency({"teacher": 3, "student": 9})
    assert select("toy", BUDGET, rows, timings)["selected"] == "student"  # slower than the teacher, and smaller
    with pytest.raises(ModelpressError, match="within its limits, student, is not faster than what it was made from"):
        select("toy", BUDGET.model_copy(update={"gain": "faster"}), rows, timings)


def test_lowest_value_is_best_when_the_metric_is_an_error() -> None:
    selection = choose(("a", 39.0, 4, 3), ("b", 38.0, 4, 9), mode="min")
    assert selection["selected"] == "b"


def error_variant(name: str, mse: float, share: float) -> dict:
    scores = {"metric": "mse", "mode": "min", "quality": {"dev": {"mse": mse}, "test": {"mse": mse}}}
    return {**variant(name, 1.0, 1.0), **scores, "quality_vs_teacher": share}


def test_budgets_share_keeps_out_an_error_too_far_above_the_teachers() -> None:
    rows = [error_variant("teacher", 0.40, 1.0), error_variant("coarse", 0.43, 0.9302)]
    selection = select("toy", BUDGET, rows, latency({"teacher": 9.0, "coarse": 1.0}))
    assert selection["selected"] == "teacher"
    assert [row["variant"] for row in selection["variants"] if row["on_frontier"]] == ["teacher", "coarse"]
    assert "mse 0.4000 on dev, 100.0% as good as the teacher's" in selection["reason"]


def test_errors_within_half_a_percent_are_a_tie_that_speed_decides() -> None:
    rows = [error_variant(name, mse, 1.0) for name, mse in (("exact", 0.4), ("int8", 0.4019), ("beyond", 0.4021))]
    timings = latency({"exact": 9.0, "int8": 3.0, "beyond": 1.0})
    assert select("toy", BUDGET, rows, timings)["selected"] == "int8"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", 37, 6.25, 3), "6.25 MB is 1.25 MB over max_size_mb 5"),
        (("a", 37, 4, 43.1), "43.10 ms is 3.10 ms over max_p50_ms 40"),
        (("a", 34.2, 4, 3), "90.00% of the teacher's quality is 5.00 points under min_quality 95%"),
    ],
)
def test_missed_limit_is_named_with_its_distance(row, message) -> None:
    with pytest.raises(ModelpressError) as caught:
        choose(row)
    assert f"nearest is a: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_limit_is_accounted_for_when_no_variant_meets_all() -> None:
    with pytest.raises(ModelpressError) as caught:
        choose(("big", 38, 30, 45), ("tiny", 30.0, 1, 2), ("close", 37.5, 5.1, 3))
    message = str(caught.value)
    assert "recipes.toy.budget: no variant meets all its limits" in message
    assert "nearest is close: 5.10 MB is 0.10 MB over" in message
    assert "max_size_mb: met by tiny" in message
    assert "max_p50_ms: met by tiny, close" in message
    assert "min_quality: met by big, close" in message


def test_closest_variant_is_named_when_a_limit_is_met_by_none() -> None:
    with pytest.raises(ModelpressError, match=r"max_size_mb: met by none, closest is b, 6\.00 MB is 1\.00 MB over"):
        choose(("a", 38, 30, 5), ("b", 30, 6, 5))


def test_unmeasured_variant_is_a_clear_error() -> None:
    with pytest.raises(ModelpressError, match=r"variants\.b: not in latency\.json"):
        select("toy", BUDGET, [variant("a", 38, 1), variant("b", 38, 1)], latency({"a": 1}))


def measured(rows) -> list[dict]:
    """Return the rows `select` judges."""
    return [
        {**variant(name, quality, size), **latency({name: p50})["variants"][name]} for name, quality, size, p50 in rows
    ]


points = st.lists(st.tuples(st.floats(1, 40), st.floats(0.1, 40), st.floats(0.1, 80)), min_size=1, max_size=8).map(
    lambda values: [(f"v{index}", *value) for index, value in enumerate(values)]
)


@given(points)
def test_selected_variant_is_within_the_budget_and_none_that_is_beats_it_by_more_than_a_tie(rows) -> None:
    try:
        selection = choose(*rows)
    except ModelpressError:
        assert all(shortfalls(row, BUDGET) for row in measured(rows))
        return
    by_name = {row["variant"]: row for row in selection["variants"]}
    chosen = by_name[selection["selected"]]
    assert not shortfalls(chosen, BUDGET)
    within = [row for row in by_name.values() if not shortfalls(row, BUDGET)]
    assert quality_of(chosen) >= max(map(quality_of, within)) * (1 - 0.005) - 1e-9


@given(points)
def test_frontier_holds_exactly_the_variants_no_other_beats(rows) -> None:
    merged = measured(rows)
    frontier = pareto_frontier(merged)
    assert frontier
    for row in merged:
        beaten = any(
            quality_of(o) >= quality_of(row)
            and p50_of(o) <= p50_of(row)
            and o["size_bytes"] <= row["size_bytes"]
            and (quality_of(o), p50_of(o), o["size_bytes"]) != (quality_of(row), p50_of(row), row["size_bytes"])
            for o in merged
        )
        assert (row in frontier) is not beaten


@pytest.mark.parametrize(("width", "figures"), [(100, ["37.50", "37.00", "98.7%"]), (80, ["37.50", "98.7%", "3.30"])])
def test_table_fits_the_terminal_names_the_protocol_and_marks_the_choice(width: int, figures: list[str]) -> None:
    names = ["tatoeba-transformer-teacher-fp32", "tatoeba-student-int8"]
    console = Console(file=io.StringIO(), width=width)
    print_table(choose((names[0], 38, 29.4, 16.9), (names[1], 37.5, 3.3, 3.4)), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "bleu_beam4" in lines[0]
    assert next(line for line in lines if "➜" in line).split()[:5] == ["➜", names[1], *figures]
