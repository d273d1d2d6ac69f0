"""The same graph at another float precision: fp32 as torch computes it, fp16 for a GPU."""

from __future__ import annotations

import copy

from onnx import ModelProto

from components.core.task import Task, TrainedModel
from components.export.fake_quant import plain
from components.export.loop import build_graph


def build_graphs(task: Task, model: TrainedModel, options: object, precision: str) -> dict[str, ModelProto]:
    """Return every graph of a model by name. fp16 halves the weights before tracing, so sums that need it stay fp32."""
    module = copy.deepcopy(plain(model.module)).eval()
    if precision == "fp16":
        module = module.half()
    return {spec.name: build_graph(spec) for spec in task.graphs(module, options)}
