"""The ranges that a model was trained with, for the tensors of its graph: `quantize_aware` names them by layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import GraphProto

from components.export.qdq import PASSING, SAME_RANGE, layers, range_tensors
from components.export.ranges import Range


@dataclass(frozen=True)
class Learned:
    """What static int8 takes from a model that was trained with rounding.

    ranges: by the names of components/export/fake_quant.py. scores: of that model on dev, {metric: value}.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def learned_ranges(graph: GraphProto, learned: Mapping[str, Range]) -> dict[str, Range]:
    """Return {tensor: range} for those of `range_tensors` that the model has learned."""
    names = names_of_ranges(graph)
    return {t: learned[names[t]] for t in range_tensors(graph) if t in names and names[t] in learned}


def names_of_ranges(graph: GraphProto) -> dict[str, str]:
    """Return {tensor: the name of its range} for all that may exist in 8 bits."""
    found = {layer.node.output[0]: (place, layer) for place, layer in enumerate(layers(graph))}
    names: dict[str, str] = {}
    last: dict[str, int] = {}  # the last layer in a tensor that is held in 8 bits
    order = [layer.name for _, layer in found.values()]
    for node in graph.node:
        y = node.output[0]
        read = [name for name in node.input if name]
        if y in found:
            place, layer = found[y]
            names.setdefault(node.input[0], f"{layer.name}:in")
            if node.op_type == "Conv":
                names[y], last[y] = layer.name, place
        elif node.op_type in (*SAME_RANGE, "Relu") and read[0] in last:
            names[y], last[y] = names[read[0]], last[read[0]]
        elif node.op_type in PASSING and all(name in last for name in read):
            last[y] = max(last[name] for name in read)
            names[y] = f"{node.op_type}:{order[last[y]]}"
    return names
