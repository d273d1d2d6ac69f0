"""The whole pipeline on a few hundred sentence pairs: flow, DVC alone, kill and resume, an install without torch."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.core.files import read_json, sha256_tree, write_json
from tests.workspace import REPOSITORY, make_workspace, workspace_environment

MODELPRESS = [sys.executable, "-m", "pipelines.cli"]
SELECTION = "metrics/tiny/selection.json"
SMALL = ("tiny-fp32", "tiny-student-int8")
DVC = [sys.executable, "-m", "dvc"]


def call(root: Path, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=root,
        env=workspace_environment(root),
        capture_output=True,
        text=True,
        timeout=500,
        **options,  # type: ignore[call-overload]
    )


def results(root: Path) -> dict[str, str]:
    """Return what must be the same wherever and however often it was made."""
    folders = (
        "data/prepared",
        "models",
        "exports",
        "bundles",
        "curves",
        "metrics/tiny/variants",
        "metrics/tiny/models",
    )
    return {folder: sha256_tree(root / folder) for folder in folders}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("e2e") / "workspace")
    done = call(root, *MODELPRESS, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "first-run.txt").write_text(done.stdout)
    return root


def test_run_ends_with_the_table_the_choice_and_the_next_commands(finished: Path) -> None:
    text = (finished / "first-run.txt").read_text()
    selection = read_json(finished / SELECTION)
    assert {row["variant"] for row in selection["variants"]} == set(
        yaml.safe_load((finished / "params.yaml").read_text())["variants"]
    )
    assert selection["selected"] in text
    columns = ("dev", "of teacher", "MB", "p50 ms", "tokens/s")  # and in a wider terminal the agreement
    for expected in ("tiny-int8", *columns, "modelpress report", "modelpress ui", "modelpress predict"):
        assert expected in text


def test_every_model_is_scored_under_three_protocols_and_a_pruned_one_computes_less(finished: Path) -> None:
    models = {path.stem: read_json(path)["quality"] for path in (finished / "metrics/tiny/models").glob("*.json")}
    protocols = {"bleu_greedy", "bleu_beam4", "bleu_teacher_forced"}
    assert all(quality["dev"].keys() == protocols | {"multiply_adds_m"} for quality in models.values())
    variants = [read_json(path) for path in (finished / "metrics/tiny/variants").glob("*.json")]
    assert {variant["metric"] for variant in variants} == {"bleu_beam2"}  # scored for them alone
    assert all(variant["teacher_quality"]["dev"].keys() > protocols | {"bleu_beam2"} for variant in variants)
    work = {row["variant"]: row["multiply_adds_m"] for row in read_json(finished / SELECTION)["variants"]}
    assert work["tiny-pruned-int8"] == models["tiny-pruned"]["dev"]["multiply_adds_m"] < work["tiny-int8"]
    assert (
        f"{work['tiny-pruned-int8']:.4g} million"
        in (finished / "bundles/tiny/tiny-pruned-int8/MODEL_CARD.md").read_text()
    )
    assert f"{work['tiny-pruned-int8']:.4g} M multiply-adds" in (finished / "reports/tiny/index.html").read_text()
    assert all(0 < row["deflated_bytes"] < row["size_bytes"] for row in read_json(finished / SELECTION)["variants"])


def test_all_recipes_that_were_run_stand_side_by_side(finished: Path) -> None:
    done = call(finished, *MODELPRESS, "report", "--all")
    page = Path(done.stdout.strip())
    assert page == finished / "reports/index.html"
    assert 'href="tiny/index.html"' in page.read_text()
    assert call(finished, *MODELPRESS, "run").stdout.count("running") == 0  # it is no stage's


def test_second_run_finds_everything_cached(finished: Path) -> None:
    before = results(finished)
    again = call(finished, *MODELPRESS, "run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "running" not in again.stdout
    assert results(finished) == before


def test_dvc_alone_agrees_with_the_flow(finished: Path, tmp_path: Path) -> None:
    status = call(finished, *DVC, "status")
    assert "up to date" in status.stdout, status.stdout
    root = make_workspace(tmp_path / "alone")
    done = call(root, *DVC, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(root) == results(finished)
    ours, theirs = (yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (finished, root))
    assert ours.keys() == theirs.keys()
    timed = ("measure@", "select@", "report@")  # measurements of the moment, and what is made of them
    assert {k: v for k, v in ours.items() if not k.startswith(timed)} == {
        k: v for k, v in theirs.items() if not k.startswith(timed)
    }


def test_changing_one_students_pass_leaves_the_teacher_fresh(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    shutil.copytree(finished, root, symlinks=True)
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["students"]["tiny-pruned"]["passes"][0]["prune"]["remove"]["ffn"] = 0.25
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    stale = call(root, *DVC, "status").stdout
    assert "compress@tiny-pruned" in stale
    for fresh in ("train@tiny", "compress@tiny-student", "export@tiny-int8", "evaluate@tiny-fp32"):
        assert f"{fresh}:" not in stale


def test_a_variant_that_searches_in_another_way_needs_no_training(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "wider"
    shutil.copytree(finished, root, symlinks=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["variants"]["tiny-int8"]["options"] = {"beam": 3, "length_penalty": 0.6}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    done = call(root, *DVC, "repro", "evaluate@tiny-int8")
    assert set(re.findall(r"Running stage '(.*?)'", done.stdout)) == {"export@tiny-int8", "evaluate@tiny-int8"}
    variant = read_json(root / "metrics/tiny/variants/tiny-int8.json")
    assert variant["metric"] == "bleu_beam3_penalty0.6"
    assert "bleu_beam3_penalty0.6" in variant["teacher_quality"]["test"]


def test_an_unproven_variant_fails_its_stage_and_is_not_packaged(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "unproven"
    shutil.copytree(finished, root, symlinks=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["variants"]["tiny-int8"]["tolerance"] = {"max_abs_diff": 1e-12, "agreement": 1.0}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    before = sha256_tree(root / "bundles/tiny/tiny-int8")
    done = call(root, *MODELPRESS, "run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "export@tiny-int8 Failed" in done.stdout
    assert "package@tiny-int8 Skipped" in done.stdout
    assert not (root / "exports/tiny-int8").exists()
    assert sha256_tree(root / "bundles/tiny/tiny-int8") == before  # the last good one stays


def test_a_variant_that_lost_more_than_its_tolerance_fails_its_stage(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "worse"
    shutil.copytree(finished, root, symlinks=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["variants"]["tiny-fp16"]["tolerance"] = {"quality_drop": 0.0}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    scores = root / "metrics/tiny/models/tiny.json"
    metrics = read_json(scores)
    for values in metrics["quality"].values():
        values["bleu_beam2"] = 101.0  # what no graph reaches
    write_json(scores, metrics)
    before = sha256_tree(root / "metrics/tiny/variants")
    refused = call(root, sys.executable, "-m", "pipelines", "evaluate", "tiny-fp16")
    assert refused.returncode != 0
    assert sha256_tree(root / "metrics/tiny/variants") == before
    assert "worse than the torch model's" in refused.stderr, refused.stderr


def test_variant_taken_out_leaves_the_selection_and_clean_removes_its_files_when_told(
    finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "shrunk"
    shutil.copytree(finished, root, symlinks=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    del params["variants"]["tiny-student-int8"], params["students"]["tiny-student"]
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    done = call(root, *DVC, "repro", "report@tiny")
    ran = {"members", "measure@tiny", "select@tiny", "report@tiny"}
    assert set(re.findall(r"Running stage '(.*?)'", done.stdout)) == ran
    assert {row["variant"] for row in read_json(root / SELECTION)["variants"]} == set(params["variants"])
    assert "tiny-student" not in (root / "reports/tiny/index.html").read_text()
    left = ("bundles/tiny/tiny-student-int8", "exports/tiny-student-int8", "models/tiny-student")
    (root / "exports" / "mine.txt").write_text("a user's own")
    assert "`modelpress clean` removes them" in call(root, *MODELPRESS, "status").stdout
    refused = call(root, *MODELPRESS, "clean", input="n\n")
    assert all(name in refused.stdout and (root / name).is_dir() for name in left)
    assert "Removed 6." in call(root, *MODELPRESS, "clean", "--yes").stdout
    assert not [name for name in left if (root / name).exists()]
    assert (root / "exports" / "mine.txt").is_file()
    assert "Nothing to remove" in call(root, *MODELPRESS, "clean").stdout


def test_mlflow_holds_a_parent_run_its_stages_and_the_registered_model(finished: Path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{finished}/.modelpress/mlflow.db"
    client = MlflowClient(store, registry_uri=store)  # without, a registry named earlier in this process would answer
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    names = {run.info.run_name for run in children}
    assert {"train@tiny", "compress@tiny-student", "export@tiny-int8", "select@tiny"} <= names
    (train,) = [run for run in children if run.info.run_name == "train@tiny"]
    assert train.data.params["recipes.tiny.train.epochs"] == "3"
    assert len(client.get_metric_history(train.info.run_id, "train_loss")) >= 3
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]  # what is unchanged is one too
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True, check=True)
    assert {run.data.tags["mlflow.source.git.commit"] for run in parents} == {commit.stdout.strip()}
    kept = {file.path for run in parents for file in client.list_artifacts(run.info.run_id, "tiny")}
    assert {"tiny/index.html", "tiny/frontier.svg"} <= kept
    (version,) = client.search_model_versions("name='tiny'")
    assert version.tags["variant"] == read_json(finished / SELECTION)["selected"]


def test_promote_rollback_and_predict_by_alias(finished: Path) -> None:
    promoted = call(finished, *MODELPRESS, "promote", "tiny")
    assert promoted.returncode == 0, promoted.stderr
    by_alias = call(finished, *MODELPRESS, "predict", "models:/tiny@champion", "he is a student .")
    by_recipe = call(finished, *MODELPRESS, "predict", "tiny", "he is a student .")
    assert by_alias.returncode == by_recipe.returncode == 0, by_alias.stderr + by_recipe.stderr
    assert by_alias.stdout == by_recipe.stdout
    nothing = call(finished, *MODELPRESS, "rollback", "tiny")
    assert nothing.returncode == 2
    assert len(nothing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["run", "tinny"], "did you mean tiny?"),
        (["run", "--set", "recipes.tiny.train.epoch=2"], "did you mean epochs?"),
        (["run", "--set", "recipes.tiny.trian.epochs=2"], "recipes.tiny.trian: unknown key, did you mean train?"),
        (["predict", "tiny-int9", "x"], "did you mean tiny-int8?"),
        (["predict", "tiny"], 'give one of: a "text"'),
        (["predict", "tiny", "--file", "nowhere.txt"], "nowhere.txt"),
        (["report", "tinny"], "did you mean tiny?"),
        (["versions", "tinny"], "did you mean tiny?"),
        (["promote", "tinny"], "did you mean tiny?"),
        (["rollback", "tinny"], "did you mean tiny?"),
        (["versions", "other"], "other: neither registered nor a recipe of params.yaml; known: tiny"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(finished: Path, command: list[str], expected: str) -> None:
    before = (finished / "params.yaml").read_bytes()
    done = call(finished, *MODELPRESS, *command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    if "--set" not in command:  # which breaks several places of params.yaml, a line each
        assert len(done.stderr.strip().splitlines()) == 1
    assert (finished / "params.yaml").read_bytes() == before


def test_bundle_answers_where_there_is_no_torch(finished: Path, tmp_path: Path) -> None:
    environment = tmp_path / "edge"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pinned = (REPOSITORY / "requirements.lock").read_text().splitlines()
    wanted = [line for line in pinned if line.split("==")[0] in ("numpy", "onnxruntime", "sentencepiece", "typer")]
    assert len(wanted) == 4
    subprocess.run([*pip, *wanted], check=True)
    absent = ["torch", "lightning", "mlflow", "prefect", "dvc", "onnx"]
    code = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"
    assert (
        subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
    command = ["-m", "pipelines.cli", "predict", "bundles/tiny/tiny-int8", "-"]
    given = "he is a student .\nshe has a dog .\n"
    clean = {"PATH": os.environ["PATH"]}
    edge = subprocess.run(
        [environment / "bin" / "python", *command], cwd=finished, input=given, capture_output=True, text=True, env=clean
    )
    assert edge.returncode == 0, edge.stderr
    here = call(finished, *MODELPRESS, *command[2:], input=given)
    assert edge.stdout == here.stdout
    assert len(edge.stdout.splitlines()) == 2


def test_a_killed_training_goes_on_behind_its_last_epoch(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "stage"
    shutil.copytree(finished, root, symlinks=True)
    expected = sha256_tree(root / "models/tiny")
    shutil.rmtree(root / "models/tiny")
    command = [sys.executable, "-m", "pipelines", "train", "tiny"]
    stage = subprocess.Popen(command, cwd=root, env=workspace_environment(root), stdout=subprocess.DEVNULL)
    while not list(root.glob(".modelpress/fits/tiny/*/1/last.ckpt")):
        assert stage.poll() is None
        time.sleep(0.002)
    stage.kill()
    stage.wait()
    assert not (root / "models/tiny").exists()
    done = call(root, *command)
    assert done.returncode == 0, done.stderr
    assert "resuming behind epoch" in done.stdout
    assert sha256_tree(root / "models/tiny") == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_flow_goes_on_and_ends_with_the_same_bytes(finished: Path, tmp_path: Path, seed: int) -> None:
    """The full twenty points are `python -m benchmarks.kill_points`."""
    root = make_workspace(tmp_path / "workspace", SMALL)
    env = workspace_environment(root)
    flow = subprocess.Popen(
        [*MODELPRESS, "run"], cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (root / ".modelpress/fits/tiny").exists():  # the teacher's training is under way
        assert flow.poll() is None
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 10))
    assert flow.poll() is None
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    done = call(root, *MODELPRESS, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SMALL:
        assert sha256_tree(root / "bundles/tiny" / name) == sha256_tree(finished / "bundles/tiny" / name)
