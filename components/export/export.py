"""A model becomes a folder that a predictor can load: graphs at one precision, proven, with their assets."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from components.core.bundle import Bundle, GraphInfo, Manifest, TensorInfo
from components.core.params import Quantize
from components.core.task import Task, TaskDataset, TrainedModel
from components.core.tolerance import Tolerance
from components.export.fake_quant import Simulated, plain
from components.export.int8 import check_worthwhile, quantize_dynamic
from components.export.learned_ranges import Learned
from components.export.parity import prove
from components.export.precision import build_graphs
from components.export.static_int8 import Judge, quantize_static
from components.export.torch_predictor import torch_predictor
from components.export.weight_only import quantize_weights


def export_model(
    task: Task,
    model: TrainedModel,
    options: Any,
    examples: TaskDataset,
    assets: Path,
    tolerance: Tolerance,
    identity: Mapping[str, Any],
    out: Path,
    quantize: Quantize | None = None,
    train: TaskDataset | None = None,
) -> Manifest:
    """Write graphs, assets and a manifest into the empty folder `out`, once the graphs are proven on `examples`.

    identity: the manifest's recipe, variant, parent, precision and runtime.
    quantize: how int8 is made; static takes calibration examples from `train`, and its ranges from a model that has
    learned them (`quantize_aware`). In every other form such a model is the one that it is in floats.

    Raises:
        ProofError: a graph disagrees with the torch model beyond the tolerance.
        ModelpressError: int8 has no use for its weights.
    """
    precision = identity["precision"]
    quantization: dict[str, Any] = {}
    if quantize is not None and quantize.method == "static":
        assert train is not None, "static int8 is calibrated on examples of train"
        floats = build_graphs(task, model, options, "fp32")
        judge = Judge(task, examples, assets, options.model_dump(), tolerance)
        learned = None
        if isinstance(model.module, Simulated):
            scores = task.score(torch_predictor(task, model, options, assets), examples)
            learned = Learned(model.module.fake_quant.as_dict(), scores)
        graphs, quantization = quantize_static(floats, quantize, train, judge, learned)
    elif quantize is not None and quantize.method == "weight_only":
        graphs, quantization = quantize_weights(build_graphs(task, model, options, "fp32"), quantize)
    elif precision == "int8":
        graphs, quantization = quantize_dynamic(build_graphs(task, model, options, "fp32"), quantize or Quantize())
        check_worthwhile(quantization["weights"])
    else:
        graphs = build_graphs(task, model, options, precision)
    print(
        f"{', '.join(graphs)}: {precision}, {sum(g.ByteSize() for g in graphs.values()) / 1e6:.2f} MB; proving",
        flush=True,
    )
    static = quantization.get("method") == "static"  # a model that was trained to round is that graph's original
    specs = task.graphs((model.module if static else plain(model.module)).eval(), options)
    parity = prove(task, specs, graphs, examples, assets, options.model_dump(), tolerance)
    print(f"proof: {', '.join(f'{k} {v}' for k, v in parity.items() if k != 'grid')}", flush=True)
    shutil.copytree(assets, out / "assets")
    for name, graph in graphs.items():
        onnx.save(graph, out / f"{name}.onnx")
    manifest = Manifest(
        task=task.name,
        predictor=task.predictor,
        options=options.model_dump(),
        graphs={name: _describe(name, graph) for name, graph in graphs.items()},
        parameters=model.parameters(),
        parity={**parity, "tolerance": tolerance.model_dump()},
        quantization=quantization,
        **identity,
    )
    return Bundle.save(out, manifest).manifest


def _describe(name: str, graph: ModelProto) -> GraphInfo:
    opset = next(entry.version for entry in graph.opset_import if entry.domain == "")
    return GraphInfo(f"{name}.onnx", _tensors(graph.graph.input), _tensors(graph.graph.output), opset)


def _tensors(values: Any) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            value.name,
            TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
            tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    )
