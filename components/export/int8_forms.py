"""A float graph rewritten into forms that have int8 operators: bytes stay bytes, an average over a picture has a name.

A picture comes as bytes and is normalized before the first convolution. Bytes are what a quantized activation is, so
the normalization becomes that activation's scale and zero point; the convolution takes over what one scale cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from components.export.initializers import arrays, share_initializers

BYTE = 255
GROUP = 4  # bytes an instruction multiplies at once


def with_int8_forms(model: ModelProto) -> ModelProto:
    """Return the same model in forms that `quantize_qdq` can take further."""
    formed = ModelProto()
    formed.CopyFrom(model)
    graph = formed.graph
    nodes = [new for node in graph.node for new in _average(graph, node)]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            _keep_bytes(graph, value.name)
    share_initializers(formed)
    return formed


def _average(graph: GraphProto, node: NodeProto) -> list[NodeProto]:
    """Return ReduceMean over height and width as GlobalAveragePool, which has an int8 form."""
    if node.op_type != "ReduceMean" or len(node.input) < 2:
        return [node]
    axes = arrays(graph).get(node.input[1])
    keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    if axes is None or sorted(axes.tolist()) not in ([2, 3], [-2, -1]) or keep:
        return [node]
    pooled = f"{node.output[0]}/pooled"
    return [
        helper.make_node("GlobalAveragePool", [node.input[0]], [pooled]),
        helper.make_node("Flatten", [pooled], [node.output[0]], axis=1),
    ]


def _keep_bytes(graph: GraphProto, name: str) -> None:
    """Turn [Transpose,] Cast, Sub, Mul, Conv into [Transpose,] DequantizeLinear, Conv; nothing where that is not there.

    (byte - mean[c]) * factor[c] = (byte - zero) * scale * factor[c] / scale + (zero - mean[c]) * factor[c]: the weights
    take the quotient, the bias the sum. The padding alone differs: it is `zero` in each channel, no mean.
    """
    chain = _chain(graph, name)
    if chain is None:
        return
    cast, subtract, multiply, conv = chain
    values = arrays(graph)
    weight, mean, factor = (values.get(node.input[1]) for node in (conv, subtract, multiply))
    grouped = any(found.name == "group" and found.i != 1 for found in conv.attribute)
    shared = sum(conv.input[1] in node.input for node in graph.node) > 1
    if weight is None or mean is None or factor is None or grouped or shared:
        return
    if not all(_one_a_channel(found, weight.shape[1]) for found in (mean, factor)):
        return
    bias = values[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(weight), np.float32)
    instead = _read_bytes(graph, name, cast, conv, _Normalized(weight, bias, mean, factor))
    nodes = [new for node in graph.node for new in (instead if node == cast else [node])]
    del graph.node[:]
    graph.node.extend(node for node in nodes if node not in (subtract, multiply))


@dataclass(frozen=True)
class _Normalized:
    """The first convolution and what stands before it: weight (outputs, C, ...), bias (outputs,), and by channel."""

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    factor: np.ndarray


def _read_bytes(graph: GraphProto, name: str, cast: NodeProto, conv: NodeProto, found: _Normalized) -> list[NodeProto]:
    """Store the convolution's weights for bytes and return the nodes that take the cast's place."""
    channels, places = found.weight.shape[1], (1,) * (found.weight.ndim - 2)
    mean_C, factor_C = (np.broadcast_to(v.astype(np.float64).ravel(), (channels,)) for v in (found.mean, found.factor))
    scale, zero = float(np.abs(factor_C).max()), int(np.clip(np.rint(mean_C.mean()), 0, BYTE))
    offset = (found.weight * ((zero - mean_C) * factor_C).reshape(-1, *places)).reshape(len(found.bias), -1).sum(1)
    scaled = found.weight * (factor_C / scale).reshape(-1, *places)
    added = -channels % GROUP
    bias = f"{conv.input[1]}/bias_of_bytes"
    _replace(
        graph,
        {
            conv.input[1]: np.pad(scaled, [(0, 0), (0, added), *[(0, 0)] * len(places)]).astype(np.float32),
            bias: (found.bias + offset).astype(np.float32),
            f"{name}/scale": np.array(scale, np.float32),
            f"{name}/zero": np.array(zero, np.uint8),
            f"{name}/channels": np.array([*range(channels), *[0] * added], np.int64),
        },
    )
    conv.input[:] = [*conv.input[:2], bias]
    pixels, nodes = cast.input[0], []
    if added:
        # a channel more, under weights of zero, costs nothing where four bytes are multiplied at once; with fewer ONNX
        # Runtime gathers a convolution's inputs one by one (measured: a grey picture's takes twice as long, all in all)
        pixels = f"{name}/four"
        nodes.append(helper.make_node("Gather", [cast.input[0], f"{name}/channels"], [pixels], axis=1))
    parts = [pixels, f"{name}/scale", f"{name}/zero"]
    return [*nodes, helper.make_node("DequantizeLinear", parts, [conv.input[0]])]


def _replace(graph: GraphProto, values: dict[str, np.ndarray]) -> None:
    """Store these, in the place of what has their names."""
    kept = [tensor for tensor in graph.initializer if tensor.name not in values]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(value, name) for name, value in values.items())])


def _chain(graph: GraphProto, name: str) -> list[NodeProto] | None:
    """Return Cast, Sub, Mul and Conv behind an input, each read by the next alone."""
    found: list[NodeProto] = []
    for kind in ("Transpose", "Cast", "Sub", "Mul", "Conv"):
        readers = [node for node in graph.node if name in node.input]
        if len(readers) == 1 and readers[0].op_type == kind and readers[0].input[0] == name:
            found.append(readers[0])
            name = readers[0].output[0]
        elif kind != "Transpose":
            return None
    return found[-4:]


def _one_a_channel(values: np.ndarray, channels: int) -> bool:
    """Return whether values broadcast over (B, C, H, W) by channel, or are one for all."""
    return values.size == 1 or (values.shape[-3:] == (channels, 1, 1) and values.size == channels)
