"""Weights stand once: each in the one graph that reads it, equal ones of a graph share a copy, unused ones go.

A loop's weights stand in its body. ONNX Runtime packs them for its fast products when the session starts, which it does
for a graph's own initializers and its parent's, but not for those two levels out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

SCALE = "/scale"  # ends the name of a weight's scales


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """Return the graphs a node holds (a loop's body, the branches of an If)."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield every node, those of loops and branches included."""
    for graph in all_graphs(model.graph):
        yield from graph.node


def all_initializers(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor, those of loops and branches included."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer


def count_floats(before: Iterable[ModelProto], after: Iterable[ModelProto]) -> dict[str, int]:
    """Return how many numbers float graphs store, and how many their quantized forms still do (scales apart)."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)

    def floats(graphs: Iterable[ModelProto]) -> int:
        tensors = [t for graph in graphs for t in all_initializers(graph) if t.data_type in kinds]
        return sum(int(np.prod(t.dims)) for t in tensors if not t.name.endswith(SCALE))

    return {"all": floats(before), "in_float": floats(after)}


def share_initializers(model: ModelProto) -> None:
    """Keep one of several equal initializers of a graph, and none that nothing reads; in place.

    Shapes, types and bytes must all be equal.
    """
    for graph in all_graphs(model.graph):
        first: dict[tuple[object, ...], str] = {}
        renamed: dict[str, str] = {}
        for tensor in graph.initializer:
            key = (tuple(tensor.dims), tensor.data_type, numpy_helper.to_array(tensor).tobytes())
            renamed[tensor.name] = first.setdefault(key, tensor.name)
        read = {value.name for value in graph.output}
        for inner in all_graphs(graph):
            read.update(value.name for value in inner.output)
            for node in inner.node:
                node.input[:] = [renamed.get(name, name) for name in node.input]
                read.update(node.input)
        kept = [t for t in graph.initializer if t.name in read and renamed[t.name] == t.name]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def arrays(graph: GraphProto) -> dict[str, np.ndarray]:
    """Return a graph's own initializers."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
