"""`modelpress run` over stages that only pretend to train: what it records, registers, changes and says."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from typing import Any

import pytest
import yaml

from components.core.files import read_json, sha256_file, write_json
from components.tracking.registry import versions
from components.tracking.store import connect
from tests.flows.conftest import Repository
from tests.unit.tracking.conftest import selection, write_bundle
from tests.workspace import tiny_params

pytestmark = pytest.mark.timeout(300)
DIGESTS = {f"{split}.{side}": "0" * 64 for split in ("train", "dev", "test") for side in ("en", "ja")}
STAGES: dict[str, Any] = {
    "fetch": {"foreach": ["tiny-pairs"], "do": {"cmd": "mkdir -p data && echo raw > data/raw", "outs": ["data/raw"]}},
    "train": {"foreach": ["tiny"], "do": {
        "cmd": "echo progress 1/2 epochs && env | grep -E '^(MODELPRESS_RUN_ID|MLFLOW_TRACKING_URI)=' > model",
        "deps": ["data/raw"], "params": ["recipes.tiny.train"], "outs": ["model"]}},
    "package": {"foreach": ["tiny-int8"], "do": {
        "cmd": "mkdir -p bundles/tiny && cp -r made bundles/tiny/tiny-int8", "deps": ["made", "model"],
        "outs": ["bundles/tiny/tiny-int8"]}},
    "select": {"foreach": ["tiny"], "do": {
        "cmd": "mkdir -p metrics/tiny && cp selection.made metrics/tiny/selection.json",
        "deps": ["bundles/tiny/tiny-int8", "selection.made"],
        "metrics": [{"metrics/tiny/selection.json": {"cache": False}}]}},
    "report": {"foreach": ["tiny"], "do": {
        "cmd": "mkdir -p reports/tiny && echo '<h1>tiny</h1>' > reports/tiny/index.html",
        "deps": ["metrics/tiny/selection.json"], "outs": ["reports/tiny"]}},
}  # fmt: skip


@pytest.fixture
def project(repository: Repository) -> Repository:
    repository.write(STAGES, tiny_params(DIGESTS))
    write_bundle(repository.root / "made", "tiny-int8", 2.0)
    write_json(repository.root / "selection.made", {**selection("tiny-int8"), "unit": "tokens/s"})
    repository.env.pop("MLFLOW_TRACKING_URI", None)
    return repository


def test_run_records_registers_and_says_what_to_type_next(project: Repository) -> None:
    first = project.modelpress("run", "--jobs", "2")
    assert first.code == 0, first.output
    assert "train@tiny done" in first.output
    assert "➜ tiny-int8" in first.output
    for command in ("modelpress report tiny", "modelpress ui", "modelpress predict tiny-int8"):
        assert command in first.output
    client = connect(project.root)
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    children = {name: run for name, run in runs.items() if "mlflow.parentRunId" in run.data.tags}
    assert children.keys() == {"fetch@tiny-pairs", "train@tiny", "package@tiny-int8", "select@tiny", "report@tiny"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    (parent,) = [run for run in runs.values() if "modelpress.recipe" in run.data.tags]
    assert parent.data.tags["modelpress.dvc_lock_sha256"] == sha256_file(project.root / "dvc.lock")
    assert f"MODELPRESS_RUN_ID={children['train@tiny'].info.run_id}" in project.text("model")
    assert children["train@tiny"].data.params["recipes.tiny.train.epochs"] == "3"
    assert len(children["train@tiny"].data.tags["lock_hash"]) == 64
    assert [version["version"] for version in versions(project.root, "tiny")] == [1]

    again = project.modelpress("run")
    assert again.code == 0, again.output
    assert again.output.count("Cached") == len(STAGES) + 1
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)

    changed = project.modelpress("run", "--set", "recipes.tiny.train.epochs=4")
    assert "recipes.tiny.train.epochs: 3 -> 4" in changed.output
    assert yaml.safe_load(project.text("params.yaml"))["recipes"]["tiny"]["train"]["epochs"] == 4
    assert "train@tiny done" in changed.output
    assert "fetch@tiny-pairs Cached" in changed.output


def test_run_writes_no_parameter_that_a_task_refuses(project: Repository) -> None:
    before = project.text("params.yaml")
    run = project.modelpress("run", "--set", "recipes.tiny.train.epochs=many")
    assert run.code == 2
    assert "recipes.tiny.train.epochs" in run.output
    assert len(run.output.strip().splitlines()) == 1
    assert project.text("params.yaml") == before
    assert not (project.root / "dvc.lock").exists()


def test_set_leaves_params_as_they_are_while_a_run_goes_on(project: Repository) -> None:
    before = project.text("params.yaml")
    slow = {
        "foreach": ["tiny-pairs"],
        "do": {"cmd": "sleep 20; mkdir -p data; echo raw > data/raw", "outs": ["data/raw"]},
    }
    project.write({**STAGES, "fetch": slow})
    first = project.start()
    while not project.processes():
        time.sleep(0.1)
    second = project.modelpress("run", "--set", "recipes.tiny.train.epochs=4")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert second.code == 2
    assert "another run is going on here" in second.output
    assert project.text("params.yaml") == before


def test_run_changes_nothing_when_a_recipe_is_misspelt(project: Repository) -> None:
    before = project.text("params.yaml")
    run = project.modelpress("run", "tinny", "--set", "recipes.tiny.train.epochs=4")
    assert run.code == 2
    assert run.output.strip().endswith("did you mean tiny?")
    assert project.text("params.yaml") == before


def test_stages_finish_when_mlflow_breaks_meanwhile(project: Repository) -> None:
    stages = {name: stage for name, stage in STAGES.items() if name != "select"}
    stages["fetch"] = {
        "foreach": ["tiny-pairs"],
        "do": {
            "cmd": "echo no database > .modelpress/mlflow.db && mkdir -p data && echo raw > data/raw",
            "outs": ["data/raw"],
        },
    }
    stages["train"] = {"foreach": ["tiny"], "do": {"cmd": "echo 1 > model", "deps": ["data/raw"], "outs": ["model"]}}
    stages["report"] = {"foreach": ["tiny"], "do": {
        "cmd": "mkdir -p reports && echo 1 > reports/tiny", "deps": ["model"], "outs": ["reports/tiny"]}}  # fmt: skip
    shutil.rmtree(project.root / "bundles", ignore_errors=True)
    project.write(stages)
    run = project.modelpress("run")
    assert run.code == 0, run.output
    assert run.output.count("MLflow has not recorded everything") == 1
    assert "Traceback" not in run.output
    assert project.text("reports/tiny") == "1\n"


def test_timings_of_another_machine_are_stale(project: Repository) -> None:
    hardware = {"cmd": f"{sys.executable} -m pipelines hardware", "outs": [{"hardware.json": {"cache": False}}]}
    select = {
        "foreach": ["tiny"],
        "do": {**STAGES["select"]["do"], "deps": ["hardware.json", "bundles/tiny/tiny-int8"]},
    }
    project.write({**STAGES, "hardware": hardware, "select": select})
    assert "hardware done" in project.modelpress("run").output
    assert "hardware Cached" in project.modelpress("run").output
    described = read_json(project.root / "hardware.json")
    write_json(project.root / "hardware.json", {**described, "cpu": "another"})
    project.dvc("commit", "-f", "hardware")
    assert "hardware done" in project.modelpress("run").output
    assert read_json(project.root / "hardware.json") == described


def test_run_shows_a_failed_stages_last_lines_and_exits_1(project: Repository) -> None:
    shutil.rmtree(project.root / "made")
    stages = {**STAGES, "package": {"foreach": ["tiny-int8"], "do": {
        "cmd": f"{sys.executable} -c \"print('about to break'); raise SystemExit('broken graph')\"",
        "deps": ["model"], "outs": ["bundles/tiny/tiny-int8"]}}}  # fmt: skip
    project.write(stages)
    run = project.modelpress("run")
    assert run.code == 1
    assert "package@tiny-int8 failed" in run.output
    assert "about to break" in run.output
    assert "broken graph" in run.output
    assert "select@tiny Skipped" in run.output


def test_status_says_what_is_stale_and_why(project: Repository) -> None:
    project.env["COLUMNS"] = "160"
    assert project.modelpress("run").code == 0
    project.write(STAGES, {**tiny_params(DIGESTS), "default": ["tiny"]})
    assert "5 of 5 stages fresh" in project.modelpress("status").output
    params = tiny_params(DIGESTS)
    params["recipes"]["tiny"]["train"]["epochs"] = 7
    project.write(STAGES, params)
    text = project.modelpress("status").output
    assert "recipes.tiny.train.epochs: 3 -> 7" in text
    assert "after train@tiny" in text
    assert "1 of 5 stages fresh" in text
