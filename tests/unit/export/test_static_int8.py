"""Static int8 as a whole, on small photos: from train alone, in bounded memory, few layers in float, repeatable."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto

from components.core.config import parse_config
from components.core.errors import ProofError
from components.core.files import sha256_tree
from components.core.params import Calibration, Quantize
from components.core.task import Task, TrainedModel, load_task
from components.core.tolerance import tolerance_for
from components.data.image_dataset import ImageDataset
from components.evaluation.charts.layer_errors import layer_error_pictures
from components.export.calibration import calibration_inputs, watch
from components.export.export import export_model
from components.export.int8_forms import with_int8_forms
from components.export.precision import build_graphs
from components.export.static_int8 import Judge, quantize_static
from tests.conformance.test_tasks import prepared_photos
from tests.workspace import REPOSITORY

MODEL = {"architecture": "mobilenet_v1", "width": 8, "depths": [1, 2]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy photos, prepared."""
    return prepared_photos(tmp_path_factory.mktemp("photos"))


def build(root: Path, steps: int = 0) -> tuple[Task, TrainedModel]:
    torch.manual_seed(0)
    task = load_task("image_classification")
    config = parse_config(task.Model, MODEL, "model")
    model = TrainedModel(config, task.build_model(config, root))
    optimizer = torch.optim.Adam(model.module.parameters(), 1e-2)
    examples = task.dataset(root, "train")
    for _ in range(steps):
        loss = task.step(model.module.train(), examples.collate([examples[i] for i in range(32)])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task, model


def export(root: Path, out: Path) -> str:
    """Export an untrained model in static int8; return the digest of all that was written."""
    task, model = build(root)
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": "int8", "runtime": "cpu"}
    tolerance = tolerance_for("int8", {"agreement": 0.0, "quality_drop": 1.0}, "t")
    out.mkdir()
    dev, train = (task.dataset(root, split) for split in ("dev", "train"))
    quantize = Quantize(method="static", calibration=Calibration(samples=32))
    export_model(task, model, task.Options(), dev, root / "assets", tolerance, identity, out, quantize, train)
    return sha256_tree(out)


def test_the_same_bytes_come_of_two_processes(root: Path, tmp_path: Path) -> None:
    code = "from tests.unit.export.test_static_int8 import *; print(export(Path(sys.argv[1]), Path(sys.argv[2])))"
    digests = [
        subprocess.run(
            [sys.executable, "-c", code, str(root), str(tmp_path / name)],
            cwd=REPOSITORY,
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for name, seed in (("one", "1"), ("two", "2"))
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64


def test_calibration_takes_as_many_examples_as_asked_for_each_once_and_the_same_again(root: Path) -> None:
    train = load_task("image_classification").dataset(root, "train")
    drawn = [text for part in calibration_inputs(train, Calibration(samples=40)) for text in part]
    assert len(drawn) == 40
    assert len(set(drawn)) == len(set(drawn) & set(train.inputs())) == 40
    assert drawn == [text for part in calibration_inputs(train, Calibration(samples=40)) for text in part]
    assert drawn != [text for part in calibration_inputs(train, Calibration(samples=40, seed=2)) for text in part]


def test_ten_times_the_examples_need_no_more_memory(root: Path) -> None:
    task, model = build(root)
    graphs = {k: with_int8_forms(g) for k, g in build_graphs(task, model, task.Options(), "fp32").items()}
    photos = ImageDataset.load(root, "train")
    many = replace(photos, images=np.concatenate([photos.images] * 14), classes=np.concatenate([photos.classes] * 14))

    def peak(samples: int) -> int:
        tracemalloc.start()
        watch(task, graphs, many, root / "assets", {}, Calibration(samples=samples))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(100)  # what is imported or cached once
    assert peak(1000) <= 1.1 * peak(100)


@dataclass(frozen=True)
class ErringJudge(Judge):
    """Finds graphs good by how many layers they still hold in float."""

    wanted: int = 0

    def scores(self, graphs: Any) -> dict[str, float]:
        (graph,) = graphs.values()
        return {"accuracy": 90.0 if _float_layers(graph) >= self.wanted else 80.0}


def _float_layers(graph: ModelProto) -> int:
    stored = {tensor.name for tensor in graph.graph.initializer}
    return sum(node.op_type in ("Conv", "Gemm") and node.input[1] in stored for node in graph.graph.node)


def test_nothing_is_called_int8_when_every_layer_would_have_to_stay_in_float(root: Path) -> None:
    task, model = build(root, steps=5)
    graphs = build_graphs(task, model, task.Options(), "fp32")
    dev, train = (task.dataset(root, split) for split in ("dev", "train"))
    (wanted,) = map(_float_layers, graphs.values())
    judge = ErringJudge(task, dev, root / "assets", {}, tolerance_for("int8", {"quality_drop": 0.01}, "t"), wanted)
    quantize = Quantize(method="static", calibration=Calibration(samples=32))
    with pytest.raises(ProofError, match=r"not one of \d+ layers can be int8 while dev loses at most 1.00%"):
        quantize_static(graphs, quantize, train, judge)


@pytest.mark.parametrize("wanted", [0, 2])
def test_the_fewest_layers_stay_in_float_from_the_top_of_the_ranking(root: Path, wanted: int) -> None:
    task, model = build(root, steps=5)
    graphs = build_graphs(task, model, task.Options(), "fp32")
    dev, train = (task.dataset(root, split) for split in ("dev", "train"))
    tolerance = tolerance_for("int8", {"quality_drop": 0.01}, "t")
    judge = ErringJudge(task, dev, root / "assets", {}, tolerance, wanted)
    quantized, facts = quantize_static(
        graphs, Quantize(method="static", calibration=Calibration(samples=32)), train, judge
    )
    ranking: Sequence[Any] = facts["ranking"]
    assert [row["in_float"] for row in facts["tried"]] == list(range(wanted + 1))
    assert [layer["precision"] == "float" for layer in ranking] == [i < wanted for i in range(len(ranking))]
    assert [layer["error"] for layer in ranking] == sorted((layer["error"] for layer in ranking), reverse=True)
    assert {layer["layer"] for layer in ranking} >= {"head", "trunk.stem.conv", "trunk.blocks.0.depthwise.conv"}
    assert all(0 < layer["error"] < 0.5 for layer in ranking)
    ((_, graph),) = quantized.items()
    sizes = [graph.ByteSize() for graph in (*graphs.values(), graph)]
    assert sizes[1] < sizes[0]
    (figure,) = layer_error_pictures({"v": facts, "other": {}})
    assert all(layer["layer"] in figure.body for layer in ranking)
    assert f"{wanted} of {len(ranking)} layers stay in float" in figure.caption
