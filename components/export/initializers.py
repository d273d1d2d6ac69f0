"""Weights stand once: equal initializers share one copy, unused ones go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper


def all_nodes(graph: GraphProto) -> Iterator[tuple[GraphProto, NodeProto]]:
    """Yield every node with the graph it stands in, subgraphs included."""
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


def weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the outermost graph's initializers as arrays."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def share_initializers(model: ModelProto) -> None:
    """Keep one of several equal initializers, and none that nothing reads; in place.

    Shapes, types and bytes must all be equal. Every initializer is expected in the outermost graph.
    """
    first: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = (tuple(tensor.dims), tensor.data_type, array.tobytes())
        renamed[tensor.name] = first.setdefault(key, tensor.name)
    used = {value.name for value in model.graph.output}
    for graph, node in all_nodes(model.graph):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        used.update(node.input)
        used.update(value.name for value in graph.output)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used and renamed[tensor.name] == tensor.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
