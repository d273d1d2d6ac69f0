"""`modelpress search` over the toy of tests/workspace.py: killed half-way, gone on with, and what it ends with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components.core.files import read_json
from components.evaluation.selection import p50_of, quality_of
from components.tasks.translation import TASK, SearchOptions
from pipelines.scores import torch_scores
from tests.workspace import make_workspace, workspace_environment

SEARCH = [sys.executable, "-m", "pipelines.cli", "search", "tiny", "--max-size", "1MB", "--max-p50", "10s",
          "--min-quality", "0", "--trials", "6", "--jobs", "2"]  # fmt: skip
HAND_WRITTEN = ("tiny-fp32", "tiny-student-int8")
ENDED = re.compile(r"^(tiny-\S+|trial-\d+): .*?: ")
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("search") / "workspace", variants=HAND_WRITTEN)


@pytest.fixture(scope="module")
def killed(root: Path) -> list[str]:
    """Start a search, kill it with SIGKILL once three trials have ended; return their lines."""
    process = subprocess.Popen(
        SEARCH, cwd=root, env=workspace_environment(root), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    ended, seen = [], []
    for line in process.stdout:
        seen.append(line)
        if ENDED.match(line):
            ended.append(line)
        if len(ended) == 3:
            workers = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert len(ended) == 3, "".join(seen)
    time.sleep(3)
    left = [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    assert not left, "its workers end with it"
    return ended


@pytest.fixture(scope="module")
def finished(root: Path, killed: list[str]) -> str:
    done = subprocess.run(
        SEARCH, cwd=root, env=workspace_environment(root), capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(root: Path, finished: str) -> dict[str, Any]:
    """Return what the search ended with; later searches write theirs in its place."""
    return search_json(root)


def search_json(root: Path) -> dict[str, Any]:
    return dict(read_json(root / ".modelpress" / "search" / "tiny" / "search.json"))


def test_a_killed_search_goes_on_and_repeats_no_finished_trial(
    killed: list[str], finished: str, results: dict[str, Any]
) -> None:
    assert "trials ended before; going on from there" in finished
    before = [ENDED.match(line)[1] for line in killed]  # type: ignore[index]
    after = [found[1] for line in finished.splitlines() if (found := ENDED.match(line))]
    assert not set(before) & set(after)
    trials = results["trials"]
    assert len(trials) == 6
    candidates = {str((t["start"], t["passes"], t["variant"])) for t in trials}
    assert len(candidates) == 6


def test_it_looks_at_dev_alone(root: Path, results: dict[str, Any]) -> None:
    assert all(set(row["quality"]) == {"dev"} for row in results["selection"]["variants"])
    test_inputs = set((root.parent / f"{root.name}-mirror" / "tiny-pairs" / "test.en").read_text().splitlines())
    dev_inputs = set((root.parent / f"{root.name}-mirror" / "tiny-pairs" / "dev.en").read_text().splitlines())
    golden = list((root / ".modelpress" / "search" / "tiny" / "work" / "graphs").glob("*/golden.json"))
    assert golden
    for path in golden:
        inputs = {example["input"] for example in read_json(path)["examples"]}
        assert inputs <= dev_inputs
        assert not inputs & (test_inputs - dev_inputs)


def test_where_nothing_fits_the_nearest_miss_is_named_and_the_exit_code_is_1(
    root: Path, results: dict[str, Any]
) -> None:
    command = [*SEARCH[: SEARCH.index("--max-size")], "--max-size", "1KB", "--max-p50", "10s", "--trials", "2"]
    done = subprocess.run(
        command, cwd=root, env=workspace_environment(root), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"Nothing fits\. The nearest miss: .* MB misses --max-size 1KB by [\d.]+% of it", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr


def test_an_edited_variant_is_measured_again_and_the_frontier_dominates_what_the_stages_saw(
    root: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["variants"]["tiny-student-int8"]["precision"] = "fp32"
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    done = subprocess.run(
        [*SEARCH, "--trials", "2"],
        cwd=root, env=workspace_environment(root), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["variant"]: row for row in search_json(root)["selection"]["variants"]}
    assert set(rows) == set(HAND_WRITTEN)
    monkeypatch.chdir(root)
    prepared, options = Path("data/prepared/tiny"), SearchOptions.model_validate({"beam": 2})
    splits = {"dev": TASK.dataset(prepared, "dev")}
    for name, model in zip(HAND_WRITTEN, ("tiny", "tiny-student"), strict=True):
        seen = torch_scores("tiny", model, TASK, options, [options.protocol], splits, prepared)["dev"]
        torch_model = read_json(root / "metrics" / "tiny" / "models" / f"{model}.json")
        mine = rows[name]
        assert mine["size_bytes"] >= 4 * torch_model["parameters"], "of an int8 graph"
        assert any(
            quality_of(row) >= 0.98 * seen[mine["metric"]]
            and p50_of(row) <= p50_of(mine)
            and row["size_bytes"] <= mine["size_bytes"]
            for row in rows.values()
            if row["on_frontier"]
        )


def test_a_found_block_pasted_into_params_yaml_makes_the_quality_the_search_saw(
    root: Path, results: dict[str, Any]
) -> None:
    trials = {trial["trial"]: trial for trial in results["trials"]}
    rows = [row for row in results["selection"]["variants"] if trials[row["variant"]]["passes"]]
    assert rows, "no trial was trained to its end"
    row = rows[0]
    trial = trials[row["variant"]]
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["students"]["found"] = {"recipe": "tiny", "from": trial["start"], "passes": trial["passes"]}
    params["variants"]["found-form"] = {"recipe": "tiny", "from": "found", **trial["variant"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    made = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "evaluate@found-form"],
        cwd=root, env=workspace_environment(root), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    variant = read_json(root / "metrics" / "tiny" / "variants" / "found-form.json")
    assert variant["quality"]["dev"] == row["quality"]["dev"]
    assert variant["size_bytes"] == row["size_bytes"]
