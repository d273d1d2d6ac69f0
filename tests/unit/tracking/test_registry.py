from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from components.core.bundle import SIGNATURE, Bundle
from components.core.errors import ModelpressError
from components.core.files import read_json, write_json, write_text
from components.core.params import Budget
from components.tracking.registration import is_judged, note_judged, registered_version
from components.tracking.registry import (
    GateRefused,
    download_bundle,
    promote,
    register_if_new,
    rollback,
    upload_signature,
    versions,
)
from components.tracking.store import connect, tracking_uri
from tests.unit.tracking.conftest import BUDGET

RECIPE = "tiny"


def write_recipe(root: Path, name: str) -> None:
    recipe = {"task": "toy", "dataset": "toys", "data": {}, "model": {}, "train": {}, "budget": BUDGET}
    toys = {"source": {"kind": "generated"}, "split": {}}
    variant = {"recipe": name, "from": name, "precision": "fp32"}
    params = {"datasets": {"toys": toys}, "recipes": {name: recipe}, "variants": {f"{name}-fp32": variant}}
    write_text(root / "params.yaml", yaml.safe_dump(params))


def live_versions(root: Path) -> list[int]:
    return [row["version"] for row in versions(root, RECIPE) if row["champion"]]


def test_bundle_is_registered_once_with_its_figures_and_below_the_project_alone(
    root: Path, select_bundle, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    select_bundle(quality=36.25)
    assert register_if_new(root, RECIPE) == 1
    assert register_if_new(root, RECIPE) is None
    shutil.rmtree(root / ".modelpress/registered")  # without the note, the registry itself says so
    assert register_if_new(root, RECIPE) is None
    (row,) = versions(root, RECIPE)
    assert (row["variant"], row["quality"], row["size_bytes"], row["p50_ms"]) == ("tiny-int8", 36.25, 3_000_000, 5.0)
    assert row["budget_met"] is True
    assert row["live"] == []
    version = connect(root).get_model_version(RECIPE, "1")
    assert list(Path.cwd().iterdir()) == []
    (model,) = (root / ".modelpress/mlartifacts").glob("**/model.onnx")
    assert model.is_relative_to(root / ".modelpress/mlartifacts" / RECIPE)
    assert version.description == "# tiny-int8\n"
    assert connect(root).get_run(version.run_id).info.status == "FINISHED"


def test_gate_s_word_on_a_bundle_is_remembered_until_there_is_another_bundle(root: Path, select_bundle) -> None:
    select_bundle(scale=2.0)
    register_if_new(root, RECIPE)
    assert not is_judged(root, RECIPE)
    note_judged(root, RECIPE)
    assert register_if_new(root, RECIPE) is None
    assert is_judged(root, RECIPE)
    select_bundle(scale=4.0)
    assert not is_judged(root, RECIPE)  # before it is registered, too
    assert register_if_new(root, RECIPE) == 2
    assert registered_version(root, RECIPE) == 2
    assert not is_judged(root, RECIPE)


def test_registering_leaves_other_clients_of_this_process_their_own_stores(
    root: Path, select_bundle, migrated_database: Path
) -> None:
    from mlflow import MlflowClient

    select_bundle()
    register_if_new(root, RECIPE)
    other = MlflowClient(f"sqlite:///{migrated_database}")
    assert other.search_registered_models() == []  # nor that of `root`, which MLflow would go on taking for everybody's
    assert "MLFLOW_REGISTRY_URI" not in os.environ
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_registered_model_answers_through_mlflow_and_names_its_tensors(root: Path, select_bundle) -> None:
    import mlflow

    select_bundle(scale=3.0)
    register_if_new(root, RECIPE)
    promote(root, RECIPE)
    mlflow.set_tracking_uri(tracking_uri(root))
    model = mlflow.pyfunc.load_model(f"models:/{RECIPE}@champion")
    signature = model.metadata.signature
    assert [(t.name, t.type, tuple(t.shape)) for t in signature.inputs.inputs] == [("x", np.dtype("float32"), (-1, 2))]
    answer = model.predict({"x": np.array([[1.0, 2.0]], np.float32)})
    np.testing.assert_allclose(answer["y"], [[3.0, 6.0]])


def test_changed_bundle_becomes_a_new_version_and_is_downloaded_whole(root: Path, select_bundle) -> None:
    select_bundle(scale=2.0)
    register_if_new(root, RECIPE)
    folder = select_bundle(scale=4.0)
    assert register_if_new(root, RECIPE) == 2
    downloaded = download_bundle(root, f"models:/{RECIPE}/2")
    assert Bundle.load(downloaded).manifest.files == Bundle.load(folder).manifest.files
    assert (
        Bundle.load(download_bundle(root, f"models:/{RECIPE}/1")).manifest.files != Bundle.load(folder).manifest.files
    )


def test_signature_joins_a_registered_version_and_comes_with_its_next_download(root: Path, select_bundle) -> None:
    select_bundle()
    register_if_new(root, RECIPE)
    copy = download_bundle(root, f"models:/{RECIPE}/1")
    write_json(copy / SIGNATURE, {"a": "signature"})
    upload_signature(root, f"models:/{RECIPE}/1", copy / SIGNATURE)
    shutil.rmtree(copy)
    assert read_json(download_bundle(root, f"models:/{RECIPE}/1") / SIGNATURE) == {"a": "signature"}
    assert len(versions(root, RECIPE)) == 1


def test_damaged_local_copy_is_downloaded_again(root: Path, select_bundle) -> None:
    select_bundle()
    register_if_new(root, RECIPE)
    copy = download_bundle(root, f"models:/{RECIPE}/1")
    (copy / "main.onnx").write_bytes(b"damaged")
    assert (download_bundle(root, f"models:/{RECIPE}/1") / "main.onnx").read_bytes() != b"damaged"


def test_promotion_is_refused_when_the_stored_bundle_was_changed(root: Path, select_bundle) -> None:
    select_bundle()
    register_if_new(root, RECIPE)
    (stored,) = (root / ".modelpress/mlartifacts").glob("**/bundle/main.onnx")
    stored.write_bytes(b"damaged")
    with pytest.raises(ModelpressError, match=r"main\.onnx: sha256 differs"):
        promote(root, RECIPE, force=True)


def test_promote_and_rollback_move_the_champion_and_remember_when(root: Path, select_bundle) -> None:
    for scale in (1.0, 2.0, 3.0):
        select_bundle(scale=scale)
        register_if_new(root, RECIPE)
    assert promote(root, RECIPE, 1) == {"recipe": RECIPE, "version": 1, "variant": "tiny-int8", "previous": None}
    assert promote(root, RECIPE, 2)["previous"] == 1
    assert rollback(root, RECIPE)["version"] == 1
    assert promote(root, RECIPE)["version"] == 3
    assert live_versions(root) == [3]
    assert rollback(root, RECIPE)["version"] == 1
    with pytest.raises(ModelpressError, match="no version was live before 1"):
        rollback(root, RECIPE)
    by_version = {row["version"]: row for row in versions(root, RECIPE)}
    assert [len(by_version[number]["live"]) for number in (1, 2, 3)] == [3, 1, 1]
    assert by_version[1]["live"][-1]["to"] is None
    assert by_version[2]["live"][0]["to"] is not None


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"size": 6_000_000}, r"6\.00 MB is 1\.00 MB over max_size_mb 5"),
        ({"p50": 41.5}, r"41\.50 ms is 1\.50 ms over max_p50_ms 40"),
        ({"ratio": 0.93}, r"93\.00% of the teacher's quality is 2\.00 points under min_quality 95%"),
    ],
)
def test_promotion_is_refused_when_a_limit_of_the_budget_is_missed(root: Path, select_bundle, figures, message) -> None:
    select_bundle(**figures)
    register_if_new(root, RECIPE)
    with pytest.raises(ModelpressError, match=message):
        promote(root, RECIPE)
    assert live_versions(root) == []
    assert promote(root, RECIPE, force=True)["version"] == 1


def test_promotion_uses_todays_budget_when_it_was_tightened_after_registration(root: Path, select_bundle) -> None:
    select_bundle()
    register_if_new(root, RECIPE)
    (root / "metrics" / RECIPE / "selection.json").unlink()  # as when nothing meets the tightened budget
    with pytest.raises(ModelpressError, match="over max_size_mb 2"):
        promote(root, RECIPE, budget=Budget(max_size_mb=2.0, max_p50_ms=40.0, min_quality=0.95))
    assert live_versions(root) == []


@pytest.mark.parametrize(("quality", "allowed"), [(36.0, True), (35.83, True), (35.81, False), (40.0, True)])
def test_promotion_depends_on_the_champions_quality_and_the_tolerance(root, select_bundle, quality, allowed) -> None:
    select_bundle(quality=36.0, scale=1.0)
    register_if_new(root, RECIPE)
    promote(root, RECIPE)
    select_bundle(quality=quality, scale=2.0)
    register_if_new(root, RECIPE)
    if allowed:
        assert promote(root, RECIPE)["version"] == 2
    else:
        with pytest.raises(ModelpressError, match=r"35\.81 is worse than the champion's \(version 1\) 36 by 0\.53%"):
            promote(root, RECIPE)
        assert live_versions(root) == [1]


@pytest.mark.parametrize(("quality", "allowed"), [(0.400, True), (0.4019, True), (0.4021, False), (0.3, True)])
def test_promotion_is_refused_when_an_error_grew_beyond_the_tolerance(root, select_bundle, quality, allowed) -> None:
    for scale, value in ((1.0, 0.4), (2.0, quality)):
        select_bundle(quality=value, scale=scale, metric="mse", mode="min")
        register_if_new(root, RECIPE)
        if scale == 1.0 or allowed:
            promote(root, RECIPE)
    if not allowed:
        with pytest.raises(
            ModelpressError, match=r"mse 0\.4021 is worse than the champion's \(version 1\) 0\.4 by 0\.5"
        ):
            promote(root, RECIPE)
    assert live_versions(root) == [2 if allowed else 1]


@pytest.mark.parametrize(
    "act", [versions, promote, rollback, lambda root, name: download_bundle(root, f"models:/{name}/1")]
)
def test_misspelt_recipe_is_told_the_registered_one_or_the_one_in_params_yaml(root: Path, select_bundle, act) -> None:
    select_bundle()
    register_if_new(root, RECIPE)
    write_recipe(root, "never-registered")
    with pytest.raises(ModelpressError, match=r"^tinny: neither registered nor .*, did you mean tiny\?$"):
        act(root, "tinny")
    with pytest.raises(ModelpressError, match=r", did you mean never-registered\?$"):
        act(root, "never-registred")
    with pytest.raises(ModelpressError, match="`modelpress run never-registered` registers"):
        act(root, "never-registered")


def test_errors_name_the_next_command_when_there_is_nothing_to_act_on(root: Path, select_bundle) -> None:
    with pytest.raises(ModelpressError, match=r"selection\.json"):
        register_if_new(root, RECIPE)
    with pytest.raises(ModelpressError, match=r"nor a recipe of params\.yaml; `modelpress run RECIPE` registers"):
        promote(root, RECIPE)
    write_recipe(root, RECIPE)
    with pytest.raises(ModelpressError, match="`modelpress run tiny`"):
        promote(root, RECIPE)
    select_bundle()
    register_if_new(root, RECIPE)
    with pytest.raises(ModelpressError, match="no champion yet; `modelpress promote tiny`"):
        download_bundle(root, "models:/tiny@champion")
    with pytest.raises(ModelpressError, match="no champion yet; `modelpress promote tiny`"):
        rollback(root, RECIPE)
    with pytest.raises(ModelpressError, match="no version 7; `modelpress versions tiny`"):
        promote(root, RECIPE, 7)
    with pytest.raises(ModelpressError, match="write models:/RECIPE@champion"):
        download_bundle(root, "tiny")
    promote(root, RECIPE)
    with pytest.raises(GateRefused, match="is the champion already"):
        promote(root, RECIPE)


def test_a_store_that_is_away_is_neither_a_refusal_nor_an_empty_registry(
    root: Path, select_bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    select_bundle()
    register_if_new(root, RECIPE)

    def away(*_: object) -> None:
        raise MlflowException("the server is restarting", TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr("mlflow.MlflowClient.get_registered_model", away)
    with pytest.raises(ModelpressError, match=r"MLflow store .*: the server is restarting") as error:
        promote(root, RECIPE)
    assert not isinstance(error.value, GateRefused)
