"""Which candidates a search tries, how far it takes each, and that a killed one goes on; over made-up figures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.params import Budget, Variant
from pipelines.search.space import Candidate, Space
from pipelines.search.study import Seed, Study, seed_of
from pipelines.search.workers import Refused, WorkerKilled
from tests.unit.pipelines.test_search_space import SPACE

BUDGET = Budget(max_size_mb=0.5, max_p50_ms=2.0, min_quality=0.9)


def seed(space: Space = SPACE, model: str = "toy", **variant: Any) -> Seed:
    return seed_of(space, Variant.model_validate({"recipe": "toy", "from": model, **variant}), space.made[model])


HAND_WRITTEN = {"toy-fp32": seed(precision="fp32"), "toy-int8": seed(precision="int8")}
FEW = replace(SPACE, sizes={"width": [32, 16, 8]}, forms={"fp32": {"precision": "fp32"}})


class Toy:
    """Figures that follow from a candidate: its width and pruning make them all; notes what it was asked."""

    def __init__(self, scale: float = 1.0) -> None:
        self.calls: list[tuple[str, str]] = []
        self.scale = scale
        self.lock = threading.Lock()

    def evaluate(self, candidate: Candidate, effort: str) -> dict[str, Any]:
        with self.lock:
            self.calls.append((candidate.identity, effort))
        work = 1.0
        for step in candidate.passes:
            work *= (step.get("distill", {}).get("model", {}).get("width", 32) / 32) ** 2
            work *= 1 - step.get("prune", {}).get("remove", {}).get("channels", 0)
        size = work * (0.25 if candidate.variant["precision"] == "int8" else 1.0) * self.scale
        return {"size_bytes": size * 1e6, "quality_vs_teacher": 0.8 + 0.2 * work**0.1, "bundle": "", "work": work}

    def estimate(self, row: Any, effort: str) -> float | None:
        return 4.0 * row["work"] * self.scale

    def study(self, folder: Path, budget: Budget = BUDGET, **changes: Any) -> Study:
        own = {"space": SPACE, "seeds": HAND_WRITTEN, "inputs": "inputs", "say": lambda _: None}
        parts = {**own, "evaluate": self.evaluate, "estimate": self.estimate, **changes}
        return Study(budget=budget, folder=folder, **parts)


def test_hand_written_variants_come_first_and_are_measured_whatever_they_miss(tmp_path: Path) -> None:
    study = Toy(scale=10).study(tmp_path)
    study.run(trials=2, jobs=1)
    assert [trial.name for trial in study.tried()] == ["toy-fp32", "toy-int8"]
    assert all(trial.outcome.row for trial in study.tried())


@pytest.mark.parametrize("jobs", [1, 3])
def test_it_ends_after_as_many_different_trials_as_asked_for(tmp_path: Path, jobs: int) -> None:
    study = Toy().study(tmp_path)
    study.run(trials=12, jobs=jobs)
    candidates = [trial.candidate.identity for trial in study.tried()]
    assert len(candidates) == len(set(candidates)) == 12


def test_it_ends_where_there_is_nothing_left_to_try(tmp_path: Path) -> None:
    study = Toy().study(tmp_path, space=FEW)
    study.run(trials=1000, jobs=1)
    # three widths, pruned or not; the teacher as it is is toy-fp32; and toy-int8
    assert len(study.tried()) == 3 * 2 + 1


def test_a_hand_written_student_is_not_trained_again(tmp_path: Path) -> None:
    passes = FEW.candidate({"model.width": 1}).passes
    space = replace(FEW, made={"toy": [], "small": passes})
    study = Toy().study(tmp_path, space=space, seeds={"small-fp32": seed(space, "small", precision="fp32")})
    study.run(trials=1000, jobs=1)
    tried = [trial.candidate for trial in study.tried()]
    assert len(tried) == 3 * 2
    assert passes not in [candidate.passes for candidate in tried]


def test_what_is_far_too_large_is_given_up_before_it_is_trained(tmp_path: Path) -> None:
    toy = Toy()
    study = toy.study(tmp_path, budget=Budget(max_size_mb=0.05, max_p50_ms=100, min_quality=0.5))
    study.run(trials=14, jobs=1)
    efforts = {identity: {e for i, e in toy.calls if i == identity} for identity, _ in toy.calls}
    given_up = [trial for trial in study.tried() if "size" in trial.outcome.out_of_reach]
    assert given_up
    assert all(efforts[trial.candidate.identity] == {"untrained"} for trial in given_up)
    assert all("before training: size is" in trial.outcome.text for trial in given_up)


def test_only_the_better_third_of_the_short_trainings_goes_on(tmp_path: Path) -> None:
    toy = Toy()
    study = toy.study(tmp_path, budget=Budget(max_size_mb=100, max_p50_ms=100, min_quality=0.5))
    study.run(trials=14, jobs=1)
    efforts = Counter(effort for _, effort in toy.calls)
    trained = [trial for trial in study.tried() if trial.candidate.passes]
    assert efforts["short"] == len(trained)
    full = [trial for trial in trained if trial.outcome.row]
    dropped = [trial for trial in trained if not trial.outcome.row]
    assert 0 < len(full) < len(trained)
    assert all("others have more" in trial.outcome.text for trial in dropped)
    shares = {t.name: toy.evaluate(t.candidate, "x")["quality_vs_teacher"] for t in trained}
    assert max(shares[t.name] for t in full) == max(shares.values())


def test_where_nothing_fits_the_nearest_miss_is_trained(tmp_path: Path) -> None:
    study = Toy(scale=1000).study(tmp_path)
    study.run(trials=16, jobs=1)
    toy = Toy(1000)
    rows = {trial.name: toy.evaluate(trial.candidate, "x") for trial in study.tried()}
    misses = {name: row["size_bytes"] / 0.5e6 + (toy.estimate(row, "x") or 0) / 2.0 for name, row in rows.items()}
    trained = {trial.name for trial in study.tried() if trial.outcome.row}
    assert min(misses, key=lambda name: misses[name]) in trained


def test_it_comes_to_a_tight_budget_by_steps_from_the_best_so_far(tmp_path: Path) -> None:
    """One point in fifty fits; by random points alone the first 40 trials held none."""
    sizes = {"width": [32, 28, 24, 20, 16, 12, 10, 8], "depths": [[3], [2], [1]], "heads": [4, 3, 2, 1]}
    shares = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625]
    space = replace(SPACE, sizes=sizes, removals={"channels": shares}, drops=[0.003])
    budget = Budget(max_size_mb=0.05, max_p50_ms=100, min_quality=0.967)
    study = Toy().study(tmp_path, budget=budget, space=space)
    study.run(trials=20, jobs=1)
    rows = [trial.outcome.row for trial in study.tried() if trial.outcome.row]
    assert [row for row in rows if row["size_bytes"] <= 0.05e6 and row["quality_vs_teacher"] >= 0.967]


def test_of_those_that_tie_the_fastest_is_gone_on_from(tmp_path: Path) -> None:
    class Faster(Toy):
        def estimate(self, row: Any, effort: str) -> float | None:
            return row["size_bytes"] / 1e6  # int8 four times as fast as fp32, with the same quality

    static = {"quantize": {"method": "static"}, "tolerance": {"agreement": 0.9}}
    by_hand = {"toy-fp32": seed(precision="fp32"), "toy-static": seed(precision="int8", **static)}
    roomy = Budget(max_size_mb=2, max_p50_ms=2, min_quality=0.9)
    study = Faster().study(tmp_path, budget=roomy, seeds=by_hand)
    study.run(trials=4, jobs=1)
    proposed = study.tried()[3].candidate
    assert proposed.variant["precision"] == "int8"
    assert len(proposed.passes) + (proposed.variant["tolerance"]["quality_drop"] != 0.003) == 1


def test_a_search_interrupted_goes_on_without_repeating_what_ended(tmp_path: Path) -> None:
    first = Toy()
    first.study(tmp_path).run(trials=5, jobs=1)

    class Killed(Toy):
        def evaluate(self, candidate: Candidate, effort: str) -> dict[str, Any]:
            if effort == "untrained":
                self.interrupted = candidate.identity
                raise WorkerKilled("killed")
            return super().evaluate(candidate, effort)

    killed = Killed()
    with pytest.raises(WorkerKilled):
        killed.study(tmp_path).run(trials=9, jobs=1)
    ended = {trial.candidate.identity for trial in killed.study(tmp_path).tried()}
    last = Toy()
    study = last.study(tmp_path)
    study.run(trials=9, jobs=1)
    assert len(study.tried()) == 9
    assert not ended & {identity for identity, _ in last.calls}
    assert killed.interrupted in {identity for identity, _ in last.calls}, "what the kill interrupted is tried again"


def test_another_budget_is_another_search(tmp_path: Path) -> None:
    Toy().study(tmp_path).run(trials=3, jobs=1)
    assert Toy().study(tmp_path, budget=BUDGET.model_copy(update={"min_quality": 0.5})).tried() == []
    assert len(Toy().study(tmp_path).tried()) == 3


@pytest.mark.parametrize("name", ["toy-int8", "toy-new"])
def test_an_edited_or_new_hand_written_variant_is_measured_when_all_trials_are_used_up(
    tmp_path: Path, name: str
) -> None:
    Toy().study(tmp_path).run(trials=4, jobs=1)
    changed = seed(precision="int8", quantize={"method": "static", "calibration": {"samples": 7}})
    study = Toy().study(tmp_path, seeds={**HAND_WRITTEN, name: changed})
    study.run(trials=4, jobs=1)
    assert {trial.name: trial.candidate for trial in study.tried()}[name] == changed.candidate


def test_a_trial_that_failed_stays_open_and_the_same_command_tries_it_again(tmp_path: Path) -> None:
    class FullDisk(Toy):
        def evaluate(self, candidate: Candidate, effort: str) -> dict[str, Any]:
            row = super().evaluate(candidate, effort)
            if candidate.passes:
                raise OSError(28, "No space left on device")
            return row

    toy = FullDisk()
    study = toy.study(tmp_path)
    study.run(trials=6, jobs=1)
    failed = {identity for identity, effort in toy.calls if effort == "untrained"}
    assert study.failed == ["failed: OSError: [Errno 28] No space left on device"] * len(failed)
    again = Toy()
    study = again.study(tmp_path)
    study.run(trials=6, jobs=1)
    assert len(study.tried()) == 6
    assert failed
    assert failed <= {trial.candidate.identity for trial in study.tried()}


def test_a_refused_candidate_ends_its_trial_alone(tmp_path: Path) -> None:
    class Refusing(Toy):
        def evaluate(self, candidate: Candidate, effort: str) -> dict[str, Any]:
            if candidate.passes:
                raise RuntimeError("a bug")
            if candidate.variant["precision"] == "int8":
                raise Refused("dev accuracy 80 is 5.0% worse than the torch model's")
            return super().evaluate(candidate, effort)

    study = Refusing().study(tmp_path)
    study.run(trials=6, jobs=1)
    outcomes = [trial.outcome.text for trial in study.tried()]
    assert len(outcomes) + len(study.failed) == 6
    assert "refused: dev accuracy 80 is 5.0% worse than the torch model's" in outcomes
    assert set(study.failed) == {"failed: RuntimeError: a bug"}


def test_no_trial_begins_after_the_time_is_over(tmp_path: Path) -> None:
    study = Toy().study(tmp_path)
    study.run(trials=5, jobs=1, max_seconds=0)
    assert study.tried() == []


def test_what_would_not_end_in_time_is_left_to_the_next_run(tmp_path: Path) -> None:
    class Slow(Toy):
        def evaluate(self, candidate: Candidate, effort: str) -> dict[str, Any]:
            if candidate.passes and effort == "short":
                time.sleep(0.3)
            return super().evaluate(candidate, effort)

    first, said = Slow(), []
    study = first.study(tmp_path, space=FEW, seeds={"toy-fp32": HAND_WRITTEN["toy-fp32"]}, say=said.append)
    study.run(trials=4, jobs=1, max_seconds=2)
    assert not [call for call in first.calls if call[1] == "full" and "distill" in call[0]]
    assert any("there is no time for its training" in line for line in said)
    left = {identity for identity, effort in first.calls if effort == "short"}
    second = Toy().study(tmp_path, space=FEW, seeds={"toy-fp32": HAND_WRITTEN["toy-fp32"]})
    second.run(trials=100, jobs=1)
    assert left <= {trial.candidate.identity for trial in second.tried()}
