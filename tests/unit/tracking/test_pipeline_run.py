from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from components.core.files import write_json, write_text
from components.tracking.pipeline_run import PipelineRun, StageRecord
from components.tracking.store import PROCESS_TAG, connect, open_experiment


def runs_of(root: Path, recipe: str, view: int = 1) -> list:
    client = connect(root)
    experiment = client.get_experiment_by_name(recipe)
    return client.search_runs([experiment.experiment_id], run_view_type=view, max_results=1000)


def test_no_mlflow_is_imported_when_no_stage_starts(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from components.tracking.pipeline_run import PipelineRun
        PipelineRun(Path(sys.argv[1]), {}).end([])
        assert "mlflow" not in sys.modules and not list(Path(sys.argv[1]).iterdir())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)


def test_stage_run_holds_its_record_and_is_the_child_of_its_recipes_run(root: Path) -> None:
    write_json(root / "metrics.json", {"dev": {"bleu": 30.5}, "name": "x", "met": True, "grid": [1, 2]})
    write_text(root / "curve.csv", "step,epoch,train_loss,dev_loss\n10,0,2.5,\n20,1,2.0,1.5\n")
    write_text(root / "note.txt", "hello")
    run = PipelineRun(root, {"who": "test"})
    environment = run.start_stage("tiny", "train@tiny")
    record = StageRecord(
        params={"model": {"width": 8}, "passes": [{"prune": {"ffn": 0.5}}], "sizes": [1, 2]},
        metrics=[root / "metrics.json", root / "missing.json"],
        plots=[root / "curve.csv"],
        artifacts=[root / "note.txt"],
        tags={"dvc_lock": "abc"},
    )
    run.end_stage("train@tiny", "FINISHED", record)
    run.end([])

    client = connect(root)
    child = client.get_run(environment["MODELPRESS_RUN_ID"])
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{root}/.modelpress/mlflow.db"
    assert child.data.params == {"model.width": "8", "passes.0.prune.ffn": "0.5", "sizes": "[1, 2]"}
    assert child.data.metrics == {"dev.bleu": 30.5, "epoch": 1, "train_loss": 2.0, "dev_loss": 1.5}
    assert [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, "train_loss")] == [
        (10, 2.5),
        (20, 2.0),
    ]
    assert [item.path for item in client.list_artifacts(child.info.run_id)] == ["note.txt"]
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert (child.info.run_name, child.data.tags["dvc_lock"], parent.data.tags["who"]) == ("train@tiny", "abc", "test")


def test_steps_logged_live_are_not_logged_again(root: Path) -> None:
    write_text(root / "curve.csv", "step,train_loss\n10,2.5\n20,2.0\n30,1.8\n")
    run = PipelineRun(root, {})
    run_id = run.start_stage("tiny", "train@tiny")["MODELPRESS_RUN_ID"]
    client = connect(root)
    client.log_metric(run_id, "train_loss", 2.5, step=10)
    client.log_metric(run_id, "train_loss", 2.0, step=20)
    run.end_stage("train@tiny", "FINISHED", StageRecord(plots=[root / "curve.csv"]))
    assert [point.step for point in client.get_metric_history(run_id, "train_loss")] == [10, 20, 30]


def test_restored_stage_leaves_no_run(root: Path) -> None:
    run = PipelineRun(root, {})
    run.start_stage("tiny", "train@tiny")
    run.end_stage("train@tiny", "RESTORED", StageRecord())
    run.end([])
    assert ["modelpress.stage" in found.data.tags for found in runs_of(root, "tiny")] == [False]


def test_more_values_than_one_batch_holds_are_all_logged(root: Path) -> None:
    write_json(root / "metrics.json", {f"m{index}": index for index in range(2100)})
    write_text(root / "curve.csv", "step,loss\n" + "".join(f"{step},{step}\n" for step in range(1500)))
    run = PipelineRun(root, {})
    run_id = run.start_stage("tiny", "evaluate")["MODELPRESS_RUN_ID"]
    record = StageRecord({f"p{i}": "v" * 7000 for i in range(250)}, [root / "metrics.json"], [root / "curve.csv"])
    run.end_stage("evaluate", "FINISHED", record)
    client = connect(root)
    found = client.get_run(run_id).data
    assert (len(found.metrics), len(found.params)) == (2101, 250)
    assert len(client.get_metric_history(run_id, "loss")) == 1500


def test_parent_shows_the_selection_and_keeps_the_report_when_the_pipeline_finished(root: Path, select_bundle) -> None:
    select_bundle(quality=36.5)
    write_text(root / "reports/tiny/index.html", "<html></html>")
    write_text(root / "dvc.lock", "stages: {}")
    run = PipelineRun(root, {})
    run.start_stage("tiny", "report@tiny")
    run.end_stage("report@tiny", "FINISHED", StageRecord())
    run.end([])
    parent = next(found for found in runs_of(root, "tiny") if "modelpress.recipe" in found.data.tags)
    assert parent.data.metrics["dev.bleu_beam4"] == 36.5
    assert parent.data.metrics["p50_ms.batch_1"] == 5.0
    assert parent.data.tags["modelpress.selected"] == "tiny-int8"
    assert len(parent.data.tags["modelpress.dvc_lock_sha256"]) == 64
    assert {item.path for item in connect(root).list_artifacts(parent.info.run_id)} == {"tiny", "MODEL_CARD.md"}


def test_parent_has_no_figures_when_its_recipe_failed(root: Path, select_bundle) -> None:
    select_bundle()
    run = PipelineRun(root, {})
    for recipe in ("tiny", "other"):
        run.start_stage(recipe, f"train@{recipe}")
        run.end_stage(f"train@{recipe}", "FAILED" if recipe == "tiny" else "FINISHED", StageRecord())
    write_text(root / "dvc.lock", "stages: {}")
    run.end(["tiny"])
    assert {(r.info.status, len(r.data.metrics)) for r in runs_of(root, "tiny")} == {("FAILED", 0)}
    assert any("modelpress.dvc_lock_sha256" in r.data.tags for r in runs_of(root, "tiny"))
    assert {r.info.status for r in runs_of(root, "other")} == {"FINISHED"}


def test_stage_still_open_is_killed_when_the_pipeline_ends(root: Path) -> None:
    run = PipelineRun(root, {})
    run.start_stage("tiny", "train@tiny")
    run.end(["tiny"])
    assert {r.info.run_name.split()[0]: r.info.status for r in runs_of(root, "tiny")} == {
        "tiny": "FAILED",
        "train@tiny": "KILLED",
    }


def test_git_commit_is_tagged_when_the_project_is_a_repository(root: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    write_text(root / "a.txt", "1")
    for arguments in (["init", "-q"], ["add", "a.txt"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    write_text(root / "a.txt", "2")
    commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    run = PipelineRun(root, {})
    run.start_stage("tiny", "train@tiny")
    run.end([])
    parent = next(found for found in runs_of(root, "tiny") if "modelpress.recipe" in found.data.tags)
    assert parent.data.tags["mlflow.source.git.commit"] == commit.stdout.strip()
    assert parent.data.tags["modelpress.git_dirty"] == "true"


def test_killed_flows_runs_are_closed_by_the_next_start_but_a_live_ones_are_not(root: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from components.tracking.pipeline_run import PipelineRun
        PipelineRun(Path({str(root)!r}), {{}}).start_stage("tiny", "train@tiny")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -9
    client = connect(root)
    experiment = open_experiment(client, root, "tiny")
    elsewhere = client.create_run(experiment, tags={PROCESS_TAG: "another-host:1:1"}).info.run_id
    assert {found.info.status for found in runs_of(root, "tiny")} == {"RUNNING"}

    live = PipelineRun(root, {})
    live.start_stage("tiny", "train@tiny")
    PipelineRun(root, {}).start_stage("tiny", "export@tiny")
    assert sorted(found.info.status for found in runs_of(root, "tiny")) == ["KILLED"] * 2 + ["RUNNING"] * 5
    assert client.get_run(elsewhere).info.status == "RUNNING"


def test_eight_threads_record_every_stage_of_two_recipes_once(root: Path) -> None:
    write_text(root / "curve.csv", "step,loss\n" + "".join(f"{step},{step}\n" for step in range(50)))
    run = PipelineRun(root, {})

    def stage(number: int) -> str:
        name = f"export@{number}"
        run_id = run.start_stage(f"recipe-{number % 2}", name)["MODELPRESS_RUN_ID"]
        record = StageRecord({"n": number}, plots=[root / "curve.csv"], artifacts=[root / "curve.csv"])
        run.end_stage(name, "FINISHED", record)
        return run_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(stage, range(40)))
    run.end([])
    client = connect(root)
    assert len(set(ids)) == 40
    for recipe in ("recipe-0", "recipe-1"):
        found = runs_of(root, recipe)
        assert len(found) == 21
        assert {item.info.status for item in found} == {"FINISHED"}
    for number, run_id in enumerate(ids):
        assert client.get_run(run_id).data.params == {"n": str(number)}
        assert len(client.get_metric_history(run_id, "loss")) == 50


def test_fresh_database_survives_processes_that_create_it_at_once(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from components.tracking.pipeline_run import PipelineRun, StageRecord
        run = PipelineRun(Path(sys.argv[1]), {})
        run.start_stage("tiny", sys.argv[2])
        run.end_stage(sys.argv[2], "FINISHED", StageRecord())
        run.end([])
    """
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    commands = [[sys.executable, "-c", textwrap.dedent(code), str(tmp_path), f"s{number}"] for number in range(3)]
    started = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    assert len(runs_of(tmp_path, "tiny")) == 6


def test_unreachable_server_is_one_clear_line_without_its_password(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelpressError, match="check MLFLOW_TRACKING_URI") as caught:
        PipelineRun(root, {}).start_stage("tiny", "train@tiny")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
