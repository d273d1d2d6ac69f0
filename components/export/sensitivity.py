"""Which layers cost most when they compute in int8: each alone, judged by what it does to the logits.

On calibration data, against the float graph. The error of a layer says where a loss of quality comes from; the fewest
layers are left in float by taking them from the top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto

from components.export.calibration import Feeds, showing
from components.export.qdq import layers
from components.inference.session import open_session

SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")


@dataclass(frozen=True)
class LayerError:
    """A layer, and how far it alone in int8 moves the logits: the root mean square as a share of the logits' spread."""

    layer: str
    error: float


def rank_layers(
    model: ModelProto, feeds: Sequence[Feeds], quantize_all_but: Callable[[set[str]], ModelProto]
) -> list[LayerError]:
    """Return a graph's layers, the one that costs most first.

    quantize_all_but: gives the graph with every layer in int8 but these.
    """
    names = [layer.name for layer in layers(model.graph)]
    shown = logits(model.graph)
    expected = run(model, shown, feeds)
    errors = [
        LayerError(name, logit_error(run(quantize_all_but(set(names) - {name}), shown, feeds), expected))
        for name in dict.fromkeys(names)
    ]
    return sorted(errors, key=lambda found: (-found.error, found.layer))


def logits(graph: GraphProto) -> list[str]:
    """Return the float outputs of a graph, each as it is before it is squashed into probabilities."""
    producers = {node.output[0]: node for node in graph.node}
    found = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            node = producers.get(value.name)
            found.append(node.input[0] if node is not None and node.op_type in SQUASHING else value.name)
    return found


def run(model: ModelProto, names: Sequence[str], feeds: Sequence[Feeds]) -> list[np.ndarray]:
    """Return these float tensors for each batch of inputs: (B, values) float64, as many values as it has."""
    session = open_session(showing(model, names, TensorProto.FLOAT).SerializeToString())
    rows = []
    for feed in feeds:
        values = session.run(list(names), dict(feed))
        rows.append(np.concatenate([value.reshape(len(value), -1) for value in values], 1).astype(np.float64))
    return rows


def logit_error(got: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the root mean square difference as a share of how the expected values of an input vary."""
    differences = np.concatenate([(a - b).ravel() for a, b in zip(got, expected, strict=True)])
    centred = np.concatenate([(b - b.mean(-1, keepdims=True)).ravel() for b in expected])
    spread, error = float(centred.std()), float(np.sqrt((differences**2).mean()))
    return round(error / spread, 6) if spread else error
