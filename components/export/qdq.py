"""Static int8: each layer reads and gives 8-bit activations whose range is known beforehand, as a QDQ graph.

QuantizeLinear and DequantizeLinear stand around float operators, the form ONNX Runtime fuses into its int8 ones.
Weights are signed and symmetric with a scale an output channel (Krishnamoorthi 2018), activations unsigned with one.
A ReLU behind a layer needs no operator: its output's range begins at zero, where quantizing clips.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from components.export.attributes import attribute
from components.export.initializers import arrays, share_initializers, subgraphs

LAYERS = ("Conv", "Gemm", "MatMul")
PASSING = ("Concat", "Add", "AveragePool", "GlobalAveragePool")  # int8 where all that they read is
SAME_RANGE = ("MaxPool", "Flatten")  # the same, and what they give has the scale of what they read
SIXTEEN_BIT = "x86-64-avx2"  # the target whose sums of two products have 16 bits: `reduced_scale` is for it
LARGEST = 127  # of a weight
NOTHING = 1e-30  # weights this small are zeros, and what they are divided by should be no smaller
STEPS = 255
LARGEST_BIAS = 2**30  # in steps of the products: half of what 32 bits hold, the rest is the products' own
FLOAT = "/8"  # ends the name of what is read back from 8 bits

Range = tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """A node with stored weights: `axis` of the weight counts its outputs."""

    name: str
    node: NodeProto
    weight: np.ndarray
    axis: int


def layers(graph: GraphProto) -> list[Layer]:
    """Return the layers a graph multiplies by stored float weights, in order; those inside loops are not among them."""
    weights = arrays(graph)
    found = []
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type in LAYERS else None
        bias_is_stored = len(node.input) < 3 or node.input[2] in weights
        if weight is None or weight.dtype != np.float32 or not bias_is_stored or not _is_plain(node, weight):
            continue
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        found.append(Layer(layer_name(node.input[1]), node, weight, axis))
    return found


def layer_name(weight: str) -> str:
    """Return what the torch model calls the layer of a weight, in float or read back from 8 bits."""
    return weight.removesuffix(FLOAT).removesuffix(".weight").removeprefix("model.")


def range_tensors(graph: GraphProto) -> list[str]:
    """Return the tensors whose ranges `quantize_qdq` needs: what layers and operators between them read or give."""
    names: dict[str, None] = {}
    held: set[str] = set()  # what may exist in 8 bits; a Concat of shapes, say, reads none of it
    known = {layer.node.output[0] for layer in layers(graph)}
    after = _relu_behind(graph)
    for node in graph.node:
        y = node.output[0]
        if y in known:
            names[node.input[0]] = None
            held.add(node.input[0])
        passing = node.op_type in (*PASSING, *SAME_RANGE) and all(name in held for name in node.input)
        if y in known or (passing and node.op_type in PASSING):
            y = after.get(y, y)
            names[y] = None
        if y in names or passing or node.op_type == "DequantizeLinear":
            held.add(y)
    return list(names)


def quantize_qdq(
    model: ModelProto,
    ranges: Mapping[str, Range],
    in_float: Collection[str] = (),
    reduced: Collection[str] = (),
) -> ModelProto:
    """Return a model whose layers, but those named in `in_float`, multiply 8-bit integers.

    ranges: smallest and largest value of each tensor of `range_tensors`.
    reduced: layers whose weights are scaled down until no sum of two products can leave 16 bits (`reduced_scale`).
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    _Writer(quantized.graph, ranges, frozenset(in_float), frozenset(reduced)).run()
    share_initializers(quantized)
    onnx.checker.check_model(quantized)
    return quantized


class _Writer:
    """Rewrites one graph; `held`: what each tensor that exists as 8-bit integers is called when it is read as float."""

    def __init__(
        self, graph: GraphProto, ranges: Mapping[str, Range], in_float: frozenset[str], reduced: frozenset[str]
    ) -> None:
        self.graph, self.reduced = graph, reduced
        self.ranges, self.stored = dict(ranges), arrays(graph)
        self.layers = {layer.node.output[0]: layer for layer in layers(graph) if layer.name not in in_float}
        self.after = _relu_behind(graph)
        self.readers = _readers(graph)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.held: dict[str, str] = {}
        self.absorbed: set[str] = set()  # outputs of nodes that need no operator any more
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def run(self) -> None:
        for node in self.graph.node:
            self._write(node)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items())

    def _write(self, node: NodeProto) -> None:
        y = node.output[0]
        if y in self.absorbed:
            return
        if node.op_type == "DequantizeLinear":  # bytes from outside
            self.held[y] = y
        layer = self.layers.get(y)
        passing = node.op_type in (*PASSING, *SAME_RANGE) and all(name in self.held for name in node.input)
        if layer is None and not passing:
            node.input[:] = [self.held.get(name, name) for name in node.input]
            self.nodes.append(node)
        elif layer is None:
            if node.op_type in SAME_RANGE:
                self.ranges[y] = self.ranges[node.input[0]]
            node.input[:] = [self.held[name] for name in node.input]
            self._give(node, node.op_type not in SAME_RANGE)
        else:
            self._write_layer(layer)

    def _write_layer(self, layer: Layer) -> None:
        node, x = layer.node, layer.node.input[0]
        if x not in self.held:  # a float operator made it
            self._quantize(self._kept_in_float(x), x, _float(x))
        node.input[0], node.input[1] = self.held[x], self._weight(layer)
        if len(node.input) > 2:
            node.input[2] = self._bias(layer, x)
        if node.op_type == "Conv" or self._only_layers_read(node.output[0]):
            self._give(node)
        else:  # a product's sum may stay as fine as it is: nothing is gained by rounding the answer
            self.nodes.append(node)

    def _kept_in_float(self, x: str) -> str:
        """Return what to round of a tensor that a layer in float, or its ReLU, made: one that hides the layer.

        ONNX Runtime makes int8 of a float layer between 8-bit tensors by itself, with one scale for all its weights
        (its WeightBiasQuantization). It finds none behind a Max, and takes none away.
        """
        maker = self.makers.get(x)
        if maker is not None and maker.op_type == "Relu":
            maker = self.makers.get(maker.input[0])
        if maker is None or maker.op_type not in LAYERS:
            return x
        lowest = self._constant("lowest", np.array(np.finfo(np.float32).min))
        self.nodes.append(helper.make_node("Max", [x, lowest], [f"{x}/kept"]))
        return f"{x}/kept"

    def _give(self, node: NodeProto, with_relu: bool = True) -> None:
        """Add a node whose output is rounded to 8 bits, behind the ReLU where one follows."""
        y = node.output[0]
        out = self.after.get(y, y) if with_relu else y
        if out != y:
            self.absorbed.add(out)
        self.nodes.append(node)
        node.output[0] = f"{out}/sum"
        self._quantize(node.output[0], out, out)

    def _quantize(self, source: str, name: str, read: str) -> None:
        """Round a tensor to 8 bits; `read` is what it is called when read back."""
        scale, zero = scale_and_zero(self.ranges[name])
        parts = [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero", zero)]
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *parts], [f"{name}/int8"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}/int8", *parts], [read]))
        self.held[name] = read

    def _weight(self, layer: Layer) -> str:
        """Return the name of a layer's weight as it is read from int8."""
        name = layer.node.input[1]
        if f"{name}/int8" not in self.constants:
            scale = (reduced_scale if layer.name in self.reduced else full_scale)(layer.weight, layer.axis)
            scale = np.maximum(scale, self._least_scale(layer))
            values = rounded(layer.weight, layer.axis, scale)
            parts = [self._constant(f"{name}/int8", values), self._constant(f"{name}/scale", scale)]
            if layer.node.op_type != "Conv":  # here ONNX Runtime does not take a missing zero point for zero
                parts.append(self._constant(f"{name}/zero", np.zeros(scale.shape, np.int8)))
            self.nodes.append(helper.make_node("DequantizeLinear", parts, [_float(name)], axis=layer.axis))
        return _float(name)

    def _least_scale(self, layer: Layer) -> np.ndarray:
        """Return what a step of the weights must be, so that a bias in steps of the products fits into 32 bits."""
        bias = layer.node.input[2] if len(layer.node.input) > 2 else None
        if bias is None:
            return np.zeros(1, np.float32)
        x_scale = scale_and_zero(self.ranges[layer.node.input[0]])[0]
        return (np.abs(self.stored[bias]) / (x_scale * np.float32(LARGEST_BIAS))).astype(np.float32)

    def _bias(self, layer: Layer, x: str) -> str:
        """Return the name of a bias: of a convolution float, which ONNX Runtime itself rounds to the products' steps.

        Of a Gemm it wants these whole numbers and their zero points in the graph.
        """
        name, weight = layer.node.input[2], layer.node.input[1].removesuffix(FLOAT)
        if layer.node.op_type == "Conv":
            return self._constant(f"{name}/half", halves(self.stored[name]))
        scale = scale_and_zero(self.ranges[x])[0] * self.constants[f"{weight}/scale"]
        values = np.rint(self.stored[name].astype(np.float64) / scale)
        parts = [self._constant(f"{name}/int32", values.astype(np.int32)), self._constant(f"{name}/scale", scale)]
        parts.append(self._constant(f"{name}/zero", np.zeros(scale.shape, np.int32)))
        self.nodes.append(helper.make_node("DequantizeLinear", parts, [_float(name)], axis=0))
        return _float(name)

    def _only_layers_read(self, tensor: str) -> bool:
        out = self.after.get(tensor, tensor)
        readers = self.readers.get(out, [])
        return bool(readers) and all(reader.output[0] in self.layers for reader in readers)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name


def scale_and_zero(limits: Range) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 scale and uint8 zero point of a range, widened so that zero is a value of its own."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = np.float32((high - low) / STEPS)
    if scale == 0 or not np.isfinite(scale):
        scale = np.float32(1)
    return np.array(scale), np.array(np.clip(np.rint(-low / scale), 0, STEPS), np.uint8)


def full_scale(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return float32 (outputs,): what one step of each output's weights is, if its largest is to be 127."""
    return _steps(np.abs(rows(weight, axis)).max(1))


def reduced_scale(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return scales with which any two neighbouring weights of a sign make 128 at most: 255 * 128 fits into 16 bits.

    A part of what `reduce_range` gives away, seven bits for all: an output without two large neighbours loses nothing.
    """
    both = rows(weight, axis)
    both = np.pad(both, ((0, 0), (0, both.shape[1] % 2)))
    pairs = np.maximum(both, 0), np.maximum(-both, 0)
    sums = np.stack([signed[:, ::2] + signed[:, 1::2] for signed in pairs])
    return _steps(np.maximum(sums.max((0, 2)), np.abs(both).max(1)))


def rows(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return weights (outputs, inputs), an output's in the order kernels take them: by place, then by channel."""
    first = np.moveaxis(weight, axis, 0)
    return (np.moveaxis(first, 1, -1) if first.ndim > 2 else first).reshape(len(first), -1)


def rounded(weight: np.ndarray, axis: int, scale: np.ndarray) -> np.ndarray:
    """Return weights as int8 in [-127, 127], in steps of each output's scale."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.rint(weight / scale.reshape(shape)), -LARGEST, LARGEST).astype(np.int8)


def _steps(largest: np.ndarray) -> np.ndarray:
    return halves(np.where(largest > NOTHING, largest / LARGEST, 1.0))


def halves(values: np.ndarray) -> np.ndarray:
    """Return float32 values that a half-precision float holds exactly, where it holds them to 11 bits at all.

    `compact` stores them as such. A scale or a bias 2^-12 off is far below what 8 bits are off.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    fine = np.isfinite(half) & (np.abs(half) >= np.finfo(np.float16).smallest_normal)
    return np.where(fine | (values == 0), half, values).astype(np.float32)


def _is_plain(node: NodeProto, weight: np.ndarray) -> bool:
    """Return whether a node is a product and a sum and nothing more."""
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0) and all(attribute(node, n, 1.0) == 1.0 for n in ("alpha", "beta"))
    if node.op_type == "Conv":
        return all(found.s == b"NOTSET" for found in node.attribute if found.name == "auto_pad")
    return weight.ndim == 2


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
        for inner in subgraphs(node):
            for name in {name for part in inner.node for name in part.input}:
                readers.setdefault(name, []).append(node)
    return readers


def _relu_behind(graph: GraphProto) -> dict[str, str]:
    """Return {tensor: its ReLU's output} for what nothing but a ReLU reads."""
    outputs = {value.name for value in graph.output}
    return {
        name: readers[0].output[0]
        for name, readers in _readers(graph).items()
        if len(readers) == 1 and readers[0].op_type == "Relu" and name not in outputs
    }


def _float(name: str) -> str:
    return name + FLOAT
