"""Puts a selected bundle into MLflow's model registry: the ONNX graph with its signature, and the whole bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.bundle import MANIFEST, Bundle
from components.core.errors import ModelpressError
from components.core.files import read_json, sha256_file, write_json
from components.evaluation.selection import chosen_row, p50_of, quality_of
from components.tracking.pipeline_run import git_tags, headline
from components.tracking.stage_record import log_values
from components.tracking.store import (
    DATABASE,
    PROCESS_TAG,
    STATE,
    close_abandoned_runs,
    connect,
    is_local,
    open_experiment,
    process_tag,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

# Protocol Buffers end at 2 GiB: larger graphs keep their weights in files beside them.
EXTERNAL_DATA_BYTES = 2**30
BUNDLE_ARTIFACT = "bundle"


def register_if_new(root: Path, recipe: str) -> int | None:
    """Register the recipe's selected bundle; return its new version, or None where it is registered already.

    Bundles are told apart by the sha256 of their manifest, which holds that of every other file.

    Raises:
        ModelpressError: nothing is selected yet, the bundle is damaged, or the MLflow store can't be reached.
    """
    if is_registered(root, recipe):
        return None
    from filelock import FileLock

    selection = read_json(root / "metrics" / recipe / "selection.json")
    row = chosen_row(selection)
    bundle = Bundle.load(root / "bundles" / recipe / row["variant"])
    digest = sha256_file(bundle.root / MANIFEST)
    client = connect(root)
    with FileLock(root / STATE / "registration.lock"):
        known = _versions_by_digest(client, recipe)
        version = (
            None if digest in known else _register(client, root, bundle, version_tags(row, selection, digest), row)
        )
    write_json(_note(root, recipe), {"uri": tracking_uri(root), "bundle_sha256": digest})
    return version


def is_registered(root: Path, recipe: str) -> bool:
    """Return whether the selected bundle was noted as registered, without the second that importing MLflow takes.

    Raises:
        ModelpressError: nothing is selected yet.
    """
    variant = chosen_row(read_json(root / "metrics" / recipe / "selection.json"))["variant"]
    manifest, note = root / "bundles" / recipe / variant / MANIFEST, _note(root, recipe)
    if not (manifest.is_file() and note.is_file()) or (is_local(root) and not (root / DATABASE).is_file()):
        return False
    noted = read_json(note)
    return bool((noted["uri"], noted["bundle_sha256"]) == (tracking_uri(root), sha256_file(manifest)))


def registered_version(root: Path, recipe: str) -> int:
    """Return the version that holds the recipe's selected bundle.

    Raises:
        ModelpressError: it is not registered, or the MLflow store can't be reached.
    """
    version = _versions_by_digest(connect(root), recipe).get(read_json(_note(root, recipe))["bundle_sha256"])
    if version is None:
        raise ModelpressError(f"{recipe}: its selected bundle is not in the registry any more")
    return version


def is_judged(root: Path, recipe: str) -> bool:
    """Return whether the gate has had its say on the selected bundle: one rolled back is not promoted again."""
    return is_registered(root, recipe) and bool(read_json(_note(root, recipe)).get("judged"))


def note_judged(root: Path, recipe: str) -> None:
    """Remember that the gate has had its say on the registered bundle."""
    write_json(_note(root, recipe), {**read_json(_note(root, recipe)), "judged": True})


def _versions_by_digest(client: MlflowClient, recipe: str) -> dict[str | None, int]:
    found = client.search_model_versions(f"name='{recipe}'")
    return {version.tags.get("bundle_sha256"): int(version.version) for version in found}


def _note(root: Path, recipe: str) -> Path:
    return root / STATE / "registered" / f"{recipe}.json"


def version_tags(row: dict[str, Any], selection: dict[str, Any], digest: str) -> dict[str, str]:
    """Return what a version is judged by later: its figures and the budget it was selected under."""
    return {
        "variant": row["variant"],
        "bundle_sha256": digest,
        "metric": row["metric"],
        "mode": row.get("mode", "max"),
        "quality": repr(quality_of(row)),
        "quality_vs_teacher": repr(float(row["quality_vs_teacher"])),
        "size_bytes": str(row["size_bytes"]),
        "p50_ms": repr(p50_of(row)),
        "budget": json.dumps(selection["budget"], sort_keys=True),
        "budget_met": str(bool(selection["met"])).lower(),
    }


def _register(client: MlflowClient, root: Path, bundle: Bundle, tags: dict[str, str], row: dict[str, Any]) -> int:
    recipe = bundle.manifest.recipe
    experiment = open_experiment(client, root, recipe)
    close_abandoned_runs(client, experiment)
    run_tags = {**git_tags(root), PROCESS_TAG: process_tag(), "modelpress.bundle_sha256": tags["bundle_sha256"]}
    run_id = client.create_run(experiment, run_name=f"register {tags['variant']}", tags=run_tags).info.run_id
    try:
        log_values(client, run_id, headline(row))
        client.log_artifacts(run_id, str(bundle.root), BUNDLE_ARTIFACT)  # before the version, which promises it
        version = _log_model(client, root, run_id, bundle, tags)
        card = bundle.root / "MODEL_CARD.md"
        if card.is_file():
            client.update_model_version(recipe, str(version), description=card.read_text(encoding="utf-8"))
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return version


def _log_model(client: MlflowClient, root: Path, run_id: str, bundle: Bundle, tags: dict[str, str]) -> int:
    """Log the main graph and register it in one step, so that a version never lacks its tags."""
    import mlflow.onnx
    import onnx
    from mlflow.utils.logging_utils import disable_logging, enable_logging

    graphs = bundle.manifest.graphs
    path = bundle.root / (graphs["main"] if "main" in graphs else next(iter(graphs.values()))).file
    model = onnx.load(str(path))
    # Left to itself, log_model puts its model into the default experiment, and so into ./mlruns.
    experiment = client.get_run(run_id).info.experiment_id
    place = client.create_logged_model(
        experiment, bundle.manifest.variant, run_id, tags, model_type=bundle.manifest.task
    )
    disable_logging()  # it prints, over our own progress
    try:
        with _global_store(tracking_uri(root)):
            logged = mlflow.onnx.log_model(
                model,
                model_id=place.model_id,
                run_id=run_id,
                signature=graph_signature(model),
                registered_model_name=bundle.manifest.recipe,
                tags=tags,
                onnx_execution_providers=["CPUExecutionProvider"],
                pip_requirements=[f"{name}=={installed_version(name)}" for name in ("onnxruntime", "onnx", "numpy")],
                save_as_external_data=path.stat().st_size > EXTERNAL_DATA_BYTES,
                metadata={"task": bundle.manifest.task, "precision": bundle.manifest.precision},
            )
    finally:
        enable_logging()
    return int(logged.registered_model_version)


@contextmanager
def _global_store(uri: str) -> Iterator[None]:
    """Name the store to what knows no other way to be told (log_model), and leave the process as it was.

    MLflow keeps both names, in itself and in the environment: a later client that names a tracking store alone would
    get this registry, and a command started from here would take them for the user's own settings.
    """
    import mlflow

    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # back to what the environment says
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def graph_signature(model: Any) -> ModelSignature:
    """Return the names, dtypes and shapes (-1: free) of an ONNX model's inputs and outputs as MLflow writes them."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def schema(values: Any) -> Schema:
        return Schema(
            [
                TensorSpec(
                    tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
                    [size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim],
                    value.name,
                )
                for value in values
            ]
        )

    weights = {weight.name for weight in model.graph.initializer}
    return ModelSignature(schema([i for i in model.graph.input if i.name not in weights]), schema(model.graph.output))
