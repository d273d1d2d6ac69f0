"""The same graph in fewer bytes: short names within, no attribute that says what is the default, halves where they do.

In a small int8 model names, attributes and biases weigh as much as a layer.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SHORTEST = 16  # numbers: a cast takes as many bytes as it saves on fewer
DIGITS = string.ascii_lowercase
_DEFAULTS = {"auto_pad": b"NOTSET", "group": 1, "ceil_mode": 0, "count_include_pad": 0, "alpha": 1.0, "beta": 1.0}
_ALL_OF = {"dilations": 1, "strides": 1, "pads": 0}  # lists whose every number is this


def compact(model: ModelProto) -> None:
    """Shorten a model without loops, in place; inputs and outputs keep their names."""
    graph = model.graph
    _store_halves(graph)
    kept = {value.name for value in (*graph.input, *graph.output)}
    names = {"": ""} | {name: name for name in kept}
    short = _short_names(kept)
    for name in _values(graph):
        if name not in names:
            names[name] = next(short)
    for node in graph.node:
        node.name = ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        told = [found for found in node.attribute if not _is_default(node, found)]
        del node.attribute[:]
        node.attribute.extend(told)
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]


def _store_halves(graph: GraphProto) -> None:
    """Store float32 lists as float16 where not a bit is lost; they are cast back once, when the graph is loaded."""
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SHORTEST:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/float16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _values(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        yield from node.output
    yield from (tensor.name for tensor in graph.initializer)


def _short_names(taken: set[str]) -> Iterator[str]:
    length = 1
    while True:
        for number in range(len(DIGITS) ** length):
            name = "".join(DIGITS[number // len(DIGITS) ** place % len(DIGITS)] for place in reversed(range(length)))
            if name not in taken:
                yield name
        length += 1


def _is_default(node: NodeProto, attribute: AttributeProto) -> bool:
    name = attribute.name
    if node.op_type == "Conv" and name == "kernel_shape":  # the weight says it
        return True
    if name in _ALL_OF:
        return set(attribute.ints) <= {_ALL_OF[name]}
    value = {AttributeProto.INT: attribute.i, AttributeProto.FLOAT: attribute.f}.get(attribute.type, attribute.s)
    return name in _DEFAULTS and value == _DEFAULTS[name]
