"""The choice of a search, which limit binds and why, the nearest miss, and the block for params.yaml."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from components.core.errors import ModelpressError
from components.core.params import Budget, parse_params
from components.evaluation.selection import p50_of, quality_of
from pipelines.search import command
from pipelines.search.command import options_of, paste_text, search, show, write_results
from pipelines.search.outcome import conclude, limits
from pipelines.search.space import Candidate
from pipelines.search.study import Outcome, Tried
from tests.unit.evaluation.made_up import latency, variant
from tests.unit.pipelines.test_search_space import SPACE, params_of_toy

ROWS = [variant("toy-fp32", 38.0, 2.0), variant("trial-1", 37.5, 0.4), variant("trial-2", 34.0, 0.1)]
TIMES = latency({"toy-fp32": 4.0, "trial-1": 1.0, "trial-2": 0.5})
FORM = {"precision": "int8", "runtime": "cpu", "options": {}}
CANDIDATES = {
    "toy-fp32": Candidate("toy", [], {"precision": "fp32", "runtime": "cpu", "options": {}}),
    "trial-1": Candidate("toy", [{"distill": {"model": {"width": 16}}}], FORM),
    "trial-2": Candidate("toy", [], FORM),
}


def concluded(size: float, p50: float, quality: float) -> dict[str, Any]:
    return conclude("toy", Budget(max_size_mb=size, max_p50_ms=p50, min_quality=quality), ROWS, TIMES)


def test_the_best_within_the_budget_is_chosen_and_the_frontier_dominates_every_row() -> None:
    selection = concluded(0.5, 2, 0.95)
    assert (selection["selected"], selection["met"]) == ("trial-1", True)
    frontier = [row for row in selection["variants"] if row["on_frontier"]]
    for row in selection["variants"]:
        assert any(
            quality_of(other) >= quality_of(row)
            and p50_of(other) <= p50_of(row)
            and other["size_bytes"] <= row["size_bytes"]
            for other in frontier
        )


def test_where_all_fit_and_none_gains_what_was_asked_nothing_is_called_a_fit() -> None:
    budget = Budget(max_size_mb=0.5, max_p50_ms=9, min_quality=0.95, gain="faster")
    rows = [{**row, "parent": "toy" if row["variant"] == "toy-fp32" else "made"} for row in ROWS]
    selection = conclude("toy", budget, rows, latency({"toy-fp32": 1.0, "trial-1": 1.0, "trial-2": 0.5}))
    assert (selection["selected"], selection["met"]) == ("trial-1", False)
    assert selection["reason"] == "Nothing fits. The nearest miss: not faster than what it was made from."


def test_each_limit_says_whether_it_binds_and_why() -> None:
    found = {limit.name: limit for limit in limits(concluded(0.5, 5, 0.95), {"max_size_mb": 7})}
    assert found["max_size_mb"].binds
    assert found["max_size_mb"].text == (
        "--max-size 500KB binds: without it toy-fp32 is chosen (38.00, 100.0% of the teacher's, 2.00 MB, 4 ms); "
        "7 trials were given up for it"
    )
    assert not found["max_p50_ms"].binds
    assert found["max_p50_ms"].text == "--max-p50 5ms does not bind: 20% of it is used, nothing better lies beyond"
    assert found["min_quality"].binds
    assert "below it, trial-2 is smaller (34.00, 89.5% of the teacher's, 0.10 MB, 0.5 ms)" in found["min_quality"].text
    assert "and trial-2 is faster" in found["min_quality"].text


def test_what_lies_beyond_a_limit_for_which_trials_were_given_up_is_unknown() -> None:
    limit = next(limit for limit in limits(concluded(0.5, 5, 0.95), {"max_p50_ms": 20}) if limit.name == "max_p50_ms")
    assert limit.binds is None
    assert limit.text == (
        "--max-p50 5ms 20% of it is used; 20 trials beyond it were given up early, so a better one may lie there"
    )


def test_size_and_latency_bind_together_where_a_better_one_exceeds_both() -> None:
    found = {limit.name: limit for limit in limits(concluded(0.5, 2, 0.95), {"max_size_mb": 20})}
    figures = "toy-fp32 is chosen (38.00, 100.0% of the teacher's, 2.00 MB, 4 ms)"
    assert found["max_size_mb"].binds
    assert found["max_p50_ms"].binds
    assert found["max_size_mb"].text == (
        f"--max-size 500KB binds: without it and --max-p50 {figures}; 20 trials were given up for it"
    )
    assert found["max_p50_ms"].text == f"--max-p50 2ms binds: without it and --max-size {figures}"


def test_where_nothing_fits_but_without_size_and_latency_it_says_so() -> None:
    selection = conclude("toy", Budget(max_size_mb=1, max_p50_ms=2, min_quality=0.9), ROWS[:1], TIMES)
    found = {limit.name: limit for limit in limits(selection, {"max_p50_ms": 3})}
    assert "missed by 1 of 1, without it and --max-p50 toy-fp32 fits" in found["max_size_mb"].text
    assert "missed by 1 of 1, without it and --max-size toy-fp32 fits" in found["max_p50_ms"].text
    assert found["max_p50_ms"].text.endswith("; 3 trials were given up for it")


def test_a_floor_under_which_nothing_is_smaller_or_faster_does_not_bind() -> None:
    found = {limit.name: limit for limit in limits(concluded(0.5, 2, 0.8), {})}
    assert not found["min_quality"].binds


def test_where_nothing_fits_the_nearest_miss_is_named_with_how_far_it_is_off() -> None:
    selection = concluded(0.3, 2, 0.95)
    assert (selection["selected"], selection["met"]) == ("trial-2", False)
    assert selection["reason"] == (
        "Nothing fits. The nearest miss: 89.47% of the teacher's quality misses --min-quality 0.95 by 5.8% of it."
    )
    found = {limit.name: limit for limit in limits(selection, {})}
    assert found["min_quality"].binds
    assert "missed by 1 of 3, without it trial-2 fits" in found["min_quality"].text
    assert "missed by 2 of 3, without it trial-1 fits" in found["max_size_mb"].text
    assert not found["max_p50_ms"].binds


def test_the_block_makes_params_yaml_that_is_right() -> None:
    params = params_of_toy()
    text = paste_text("toy", "trial-1", CANDIDATES, params)
    blocks = yaml.safe_load(text)
    assert blocks["students"]["toy-found"] == {
        "recipe": "toy",
        "from": "toy",
        "passes": [{"distill": {"model": {"width": 16}}}],
    }
    assert blocks["variants"]["toy-found-int8"]["from"] == "toy-found"
    again = params_of_toy(students=blocks["students"], variants={**params_as_yaml(params), **blocks["variants"]})
    assert "toy-found2" in yaml.safe_load(paste_text("toy", "trial-1", CANDIDATES, again))["students"]


def test_the_block_fits_beside_a_variant_whose_options_belong_to_one_method() -> None:
    static = {"recipe": "toy", "from": "toy", "precision": "int8", "quantize": {"method": "static"}}
    assert "toy-found" in paste_text("toy", "trial-1", CANDIDATES, params_of_toy(variants={"toy-static": static}))


def params_as_yaml(params: Any) -> dict[str, Any]:
    return {name: v.model_dump(by_alias=True, exclude_none=True) for name, v in params.variants.items()}


def test_a_chosen_teacher_needs_a_variant_alone_and_a_hand_written_one_nothing() -> None:
    blocks = yaml.safe_load(paste_text("toy", "trial-2", CANDIDATES, params_of_toy()))
    assert blocks == {"variants": {"toy-found-int8": {"recipe": "toy", "from": "toy", **FORM}}}
    assert paste_text("toy", "toy-fp32", CANDIDATES, params_of_toy()) == ""


def test_results_are_files_of_their_own_and_the_terminal_shows_frontier_choice_and_block(tmp_path: Path) -> None:
    selection = concluded(0.5, 2, 0.95)
    found, paste = limits(selection, {}), paste_text("toy", "trial-1", CANDIDATES, params_of_toy())
    tried = [Tried(name, candidate, Outcome("trained")) for name, candidate in CANDIDATES.items()]
    (tmp_path / "found.yaml").write_text("of an earlier search")
    files = write_results(tmp_path, selection, tried, found)
    assert sorted(tmp_path.iterdir()) == files == [tmp_path / "frontier.svg", tmp_path / "search.json"]
    plot = (tmp_path / "frontier.svg").read_text()
    assert plot.startswith("<svg")
    assert "http" not in plot.replace("http://www.w3.org/2000/svg", "")
    text = io.StringIO()
    show(selection, CANDIDATES, found, paste, files, Console(file=text, width=120))
    shown = text.getvalue()
    for expected in ("trial-1: distill width 16; int8", "➜ trial-1", "--max-size 500KB", "toy-found:", "search.json"):
        assert expected in shown


def test_results_are_there_where_params_yaml_does_not_take_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = Tried("trial-1", Candidate("gone", [], FORM), Outcome("trained"))
    monkeypatch.setattr(command, "bring_up_to_date", lambda *_: None)
    monkeypatch.setattr(command, "_search", lambda *_: ([orphan], concluded(0.5, 2, 0.95)))
    options = options_of(params_of_toy(), "toy", "500KB", "2ms", "0.95", 40, 1, None)
    with pytest.raises(ModelpressError, match="gone"):
        search(tmp_path, options, params_of_toy(), Console(file=io.StringIO()))
    assert (tmp_path / ".modelpress" / "search" / "toy" / "search.json").is_file()


def test_what_is_left_out_is_the_recipes_budget() -> None:
    options = options_of(params_of_toy(), "toy", "300KB", None, None, 40, 2, "30min")
    assert options.budget == Budget(max_size_mb=0.3, max_p50_ms=1, min_quality=0.9)
    assert options.max_seconds == 1800


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toi", None, None, None, 40, 1, None), "no recipe 'toi' in params.yaml, did you mean toy?"),
        (("toy", None, None, None, 0, 1, None), "--trials 0: the recipe's 1 hand-written variants come first"),
        (("toy", None, "1.5msec", None, 40, 1, None), "--max-p50 1.5msec: 'msec' is no unit of duration, did you mean"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(arguments: Any, message: str) -> None:
    with pytest.raises(ModelpressError) as error:
        options_of(params_of_toy(), *arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_space_of_these_tests_is_one_params_yaml_takes() -> None:
    point = {name: len(values) - 1 for name, values in SPACE.choices().items()}
    text = paste_text("toy", "t", {"t": SPACE.candidate(point)}, params_of_toy())
    base = yaml.safe_dump(params_of_toy().model_dump(by_alias=True, mode="json", exclude_none=True))
    blocks = {**yaml.safe_load(base)}
    for kind, found in yaml.safe_load(text).items():
        blocks[kind] = {**blocks[kind], **found}
    assert "toy-found" in parse_params(yaml.safe_dump(blocks), Path("params.yaml")).students
