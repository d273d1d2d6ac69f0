"""A plan read by another process is the plan, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.dag import read_plan
from pipelines.plan_ahead import PlanAhead, plan_of, planning_ahead
from tests.flows.conftest import Repository

STAGES: dict[str, object] = {
    "make": {"cmd": "echo 1 > made", "outs": ["made"]},
    "use": {"cmd": "cat made > used", "deps": ["made"], "outs": ["used"]},
    "other": {"cmd": "echo 2 > other", "outs": ["other"]},
}


@pytest.fixture
def root(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository.write(STAGES)
    repository.dvc("repro", "make")
    monkeypatch.chdir(repository.root)
    return repository.root


def test_it_is_the_plan_of_these_targets(root: Path) -> None:
    ahead = PlanAhead(root, ["use"])
    plan = ahead.plan(["use"])
    assert plan == read_plan(root, ["use"])
    assert [(stage.name, stage.stale) for stage in plan.values()] == [("make", False), ("use", True)]
    assert PlanAhead(root, ["use"]).plan(["other"]) is None


def test_it_is_none_once_the_project_has_changed(root: Path, repository: Repository) -> None:
    ahead = PlanAhead(root, [])
    repository.write({**STAGES, "more": {"cmd": "echo 3 > more", "outs": ["more"]}})
    assert ahead.plan(None) is None


def test_it_is_none_where_it_cannot_be_read(root: Path) -> None:
    (root / "dvc.yaml").write_text("stages: [broken")
    assert PlanAhead(root, []).plan(None) is None


def test_a_flow_reads_for_itself_what_a_killed_one_may_have_been_changing(root: Path) -> None:
    for settled, stale in ((True, False), (False, True)):
        (root / "made").write_text("1\n")
        with planning_ahead(root, ["make"]) as ahead:
            ahead.wait()
            (root / "made").unlink()  # as a process does that its killed flow has left behind
            assert plan_of(root, ["make"], settled)["make"].stale is stale
