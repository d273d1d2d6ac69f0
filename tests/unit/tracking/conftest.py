"""A project folder with a real MLflow database and bundles with a real ONNX graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from components.core.bundle import Bundle, GraphInfo, Manifest, TensorInfo
from components.core.files import write_json, write_text
from components.tracking.store import DATABASE, connect

RECIPE = "tiny"
BUDGET = {"max_size_mb": 5.0, "max_p50_ms": 40.0, "min_quality": 0.95}


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with MLflow's tables, which take two seconds to create."""
    root = tmp_path_factory.mktemp("mlflow")
    connect(root)
    return root / DATABASE


@pytest.fixture
def root(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / DATABASE).parent.mkdir(parents=True)
    shutil.copy(migrated_database, tmp_path / DATABASE)
    return tmp_path


@pytest.fixture
def select_bundle(root: Path) -> Callable[..., Path]:
    """Package a bundle and select it; the arguments are the figures it is judged by."""

    def write(variant: str = "tiny-int8", scale: float = 2.0, **figures: Any) -> Path:
        folder = root / "bundles" / RECIPE / variant
        shutil.rmtree(folder, ignore_errors=True)
        write_bundle(folder, variant, scale)
        write_json(root / "metrics" / RECIPE / "selection.json", selection(variant, **figures))
        return folder

    return write


def write_bundle(folder: Path, variant: str, scale: float) -> None:
    folder.mkdir(parents=True)
    onnx.save(doubling_model(scale), str(folder / "main.onnx"))
    write_text(folder / "MODEL_CARD.md", f"# {variant}\n")
    write_json(folder / "golden.json", {"examples": [{"input": [1.0, 2.0], "output": [2.0, 4.0]}]})
    tensor = TensorInfo("x", "float32", ("batch", 2))
    graph = GraphInfo("main.onnx", (tensor,), (TensorInfo("y", "float32", ("batch", 2)),), 20)
    manifest = Manifest("toy", RECIPE, variant, RECIPE, "int8", "cpu", "toy", {}, {"main": graph}, parameters=1)
    Bundle.save(folder, manifest)


def doubling_model(scale: float) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    weight = helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "scale"], ["y"])], "toy", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def selection(
    variant: str,
    quality: float = 36.0,
    p50: float = 5.0,
    size: int = 3_000_000,
    ratio: float = 0.98,
    metric: str = "bleu_beam4",
    mode: str = "max",
) -> Any:
    row = {
        "variant": variant,
        "recipe": RECIPE,
        "parent": RECIPE,
        "precision": "int8",
        "quality": {"dev": {metric: quality}, "test": {metric: quality - 1}},
        "quality_vs_teacher": ratio,
        "metric": metric,
        "mode": mode,
        "size_bytes": size,
        "parameters": 1,
        "latency_ms": {"batch_1": {"p50": p50, "p95": p50 * 2}, "batch_32": {"p50": 50.0, "p95": 60.0}},
        "throughput": {"batch_1": 1000.0, "batch_32": 9000.0},
        "parity": {"max_abs_diff": 1e-5, "agreement": 1.0},
        "runtime": "cpu",
        "hardware": "test",
        "on_frontier": True,
    }
    return {
        "recipe": RECIPE,
        "selected": variant,
        "reason": "only one",
        "met": True,
        "budget": BUDGET,
        "variants": [row],
    }
