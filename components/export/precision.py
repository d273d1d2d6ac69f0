"""The same graph at another precision: fp32 as torch computes it, fp16 for a GPU, int8 for a CPU."""

from __future__ import annotations

import copy

from onnx import ModelProto

from components.core.task import Task, TrainedModel
from components.export.fake_quant import plain
from components.export.int8 import quantize_int8
from components.export.loop import build_graph


def build_graphs(task: Task, model: TrainedModel, options: object, precision: str) -> dict[str, ModelProto]:
    """Return every graph of a model by name. fp16 halves the weights before tracing, so sums that need it stay fp32."""
    module = copy.deepcopy(plain(model.module)).eval()
    if precision == "fp16":
        module = module.half()
    graphs = {spec.name: build_graph(spec) for spec in task.graphs(module, options)}
    if precision == "int8":
        graphs = {name: quantize_int8(graph) for name, graph in graphs.items()}
    return graphs
