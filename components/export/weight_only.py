"""Weight-only int8 and int4: weights of few bits in blocks with a scale each, activations and sums in float.

Every graph is covered, loops included: products, embedding tables, convolutions and recurrent operators. A 4-bit
product is ONNX Runtime's MatMulNBits, which reads the few bits when it runs, and so is an 8-bit one with `activations:
int8`. With float activations it would unpack 8 bits at every call; those products, as all convolutions and recurrent
operators, have their weights unpacked once, when the graph is loaded: a smaller file, with float's memory and speed.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from components.core.params import Quantize
from components.export.attributes import attribute
from components.export.block_rounding import in_blocks
from components.export.compact import compact
from components.export.initializers import (
    SCALE,
    all_graphs,
    all_nodes,
    arrays,
    count_floats,
    share_initializers,
    subgraphs,
)
from components.export.int8 import RECURRENT, SMALLEST

OPSET = 21  # the first with 4-bit tensors; of what graphs here hold, it changes nothing but the types that are allowed
RUNTIME = "com.microsoft"  # the domain of ONNX Runtime's own operators
IN_FLOAT, IN_INT8 = 1, 4  # MatMulNBits: accuracy_level


def quantize_weights(
    graphs: Mapping[str, ModelProto], quantize: Quantize
) -> tuple[dict[str, ModelProto], dict[str, Any]]:
    """Return float graphs with their weights in 8 or 4 bits, and what is to be known of them, for the manifest."""
    written = {name: _quantize(graph, quantize) for name, graph in graphs.items()}
    facts = {
        "method": "weight_only",
        "bits": quantize.bits,
        "block": quantize.block,
        "activations": quantize.activations,
        "weights": count_floats(graphs.values(), written.values()),
        "certificates": {target: {"sums": _sums(target, quantize)} for target in quantize.targets},
    }
    for graph in written.values():
        if not any(subgraphs(node) for node in graph.graph.node):
            compact(graph)
    return written, facts


def _sums(target: str, quantize: Quantize) -> str:
    """Return in what a target adds products, none of which can saturate (params.py refuses the one that could)."""
    if quantize.activations == "float":
        return "32-bit floats"
    return "32 bits" if target == "x86-64-vnni" else "16 bits; two products by 4-bit weights are 3,810 at most"


def _quantize(model: ModelProto, quantize: Quantize) -> ModelProto:
    quantized = ModelProto()
    quantized.CopyFrom(model)
    for graph in reversed(list(all_graphs(quantized.graph))):  # inner ones first: rewriting a graph copies its nodes
        _GraphWeights(graph, quantize).run()
    share_initializers(quantized)
    next(entry for entry in quantized.opset_import if entry.domain == "").version = OPSET
    if any(node.domain == RUNTIME for node in all_nodes(quantized)):
        quantized.opset_import.append(helper.make_opsetid(RUNTIME, 1))
    onnx.checker.check_model(quantized)
    return quantized


class _GraphWeights:
    """The rewriting of one graph's own nodes and weights."""

    def __init__(self, graph: GraphProto, quantize: Quantize) -> None:
        self.graph, self.bits, self.block = graph, quantize.bits, quantize.block
        self.in_int8 = quantize.activations == "int8"
        self.weights = {n: w for n, w in arrays(graph).items() if w.dtype == np.float32 and w.size >= SMALLEST}
        self.constants: dict[str, np.ndarray] = {}
        self.scales: dict[str, str] = {}  # of each weight that is stored already
        self.at_load: dict[str, NodeProto] = {}  # by output; over weights alone: ONNX Runtime folds them when it loads

    def run(self) -> None:
        nodes = [new for node in self.graph.node for new in self._rewrite(node)]
        del self.graph.node[:]
        self.graph.node.extend([*self.at_load.values(), *nodes])
        self.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items())

    def _rewrite(self, node: NodeProto) -> list[NodeProto]:
        kind = node.op_type
        if kind in ("MatMul", "Gemm") and self._is_product(node):
            return self._product(node)
        if kind == "Gather" and self._is_matrix(node.input[0]) and attribute(node, "axis", 0) == 0:
            return self._lookup(node)
        for index in RECURRENT.get(kind, (1,) if kind == "Conv" else ()):
            if node.input[index] in self.weights:
                # a recurrent operator's weights are (directions, outputs, inputs)
                node.input[index] = self._unpacked(node.input[index], axes=2 if kind in RECURRENT else 1)
        return [node]

    def _is_matrix(self, name: str) -> bool:
        return name in self.weights and self.weights[name].ndim == 2

    def _is_product(self, node: NodeProto) -> bool:
        plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(
            node, "transA", 0
        )
        return plain and self._is_matrix(node.input[1])

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """Multiply by packed weights, and add the bias."""
        x, name, y = node.input[0], node.input[1], node.output[0]
        turned = bool(attribute(node, "transB", 0))  # (outputs, inputs), as the packed form is
        outputs, inputs = self.weights[name].shape if turned else self.weights[name].shape[::-1]
        packed = self._packed(name, turned)
        if self.bits == 8 and not self.in_int8:
            node.input[1] = self._unpacked_product(packed, outputs, inputs, turned)
            return [node]
        bias = node.input[2] if len(node.input) > 2 else ""
        product = f"{y}/product" if bias else y
        sizes = {"K": inputs, "N": outputs, "bits": self.bits, "block_size": self.block}
        level = IN_INT8 if self.in_int8 else IN_FLOAT
        parts = [x, packed, self.scales[packed]]
        nodes = [helper.make_node("MatMulNBits", parts, [product], domain=RUNTIME, accuracy_level=level, **sizes)]
        if bias:
            nodes.append(helper.make_node("Add", [product, bias], [y]))
        return nodes

    def _lookup(self, node: NodeProto) -> list[NodeProto]:
        """Gather rows of packed weights and unpack those; a product may read the same table."""
        name, ids, y = node.input[0], node.input[1], node.output[0]
        columns = self.weights[name].shape[1]
        packed = self._packed(name, turned=True)
        rows = self._reshaped(packed, (0, -1), f"{packed}/rows")
        sizes = {"bits": self.bits, "block_size": self.block, "gather_axis": 0, "quantize_axis": 1}
        whole = f"{y}/blocks" if columns % self.block else y
        parts = [rows, ids, self.scales[packed]]
        nodes = [helper.make_node("GatherBlockQuantized", parts, [whole], domain=RUNTIME, **sizes)]
        if whole != y:
            nodes.append(helper.make_node("Slice", [whole, *self._first(columns, packed)], [y]))
        return nodes

    def _packed(self, name: str, turned: bool) -> str:
        """Store a matrix as MatMulNBits reads it: uint8 (outputs, blocks, block * bits / 8), the first number lowest.

        turned: it lies as (outputs, inputs), which is how a table lies too.
        """
        packed = f"{name}/packed" if turned else f"{name}/turned/packed"
        if packed not in self.scales:
            matrix = self.weights[name] if turned else self.weights[name].T
            values, scale = self._blocks(matrix)
            codes = (values.astype(np.int16) + (1 << (self.bits - 1))).astype(np.uint8)
            self._constant(packed, codes if self.bits == 8 else codes[..., ::2] | codes[..., 1::2] << 4)
            self._keep_scale(packed, scale)
        return packed

    def _unpacked_product(self, packed: str, outputs: int, inputs: int, turned: bool) -> str:
        """Return the name of a packed 8-bit matrix unpacked at load, lying as the float one did."""
        zero = self._constant(f"{packed}/zero", np.array(128, np.float32))
        codes = self._at_load("Cast", [packed], f"{packed}/codes", to=TensorProto.FLOAT)
        whole = self._scaled(self._at_load("Sub", [codes, zero], f"{packed}/values"), packed)
        whole = self._reshaped(whole, (outputs, -1), f"{packed}/matrix")
        if inputs % self.block:
            whole = self._at_load("Slice", [whole, *self._first(inputs, packed)], f"{packed}/inputs")
        return whole if turned else self._at_load("Transpose", [whole], f"{packed}/unpacked", perm=[1, 0])

    def _unpacked(self, name: str, axes: int) -> str:
        """Return the name of a weight of any shape unpacked at load; its first axes count the outputs.

        Recurrent weights end in a part of a block, as products do.
        """
        unpacked = f"{name}/unpacked"
        if unpacked not in self.at_load:
            weight, stored = self.weights[name], f"{name}/stored"
            matrix = weight.reshape(int(np.prod(weight.shape[:axes])), -1)
            inputs = matrix.shape[1]
            values, scale = self._blocks(matrix, divided=axes > 1)
            self._constant(stored, values if self.bits == 8 else values.astype(ml_dtypes.int4))
            self._keep_scale(stored, scale)
            whole = self._at_load("Cast", [stored], f"{stored}/values", to=TensorProto.FLOAT)
            whole = self._scaled(whole, stored)
            if values[0].size > inputs:
                whole = self._reshaped(whole, (len(matrix), -1), f"{stored}/matrix")
                whole = self._at_load("Slice", [whole, *self._first(inputs, stored)], f"{stored}/inputs")
            self._reshaped(whole, weight.shape, unpacked)
        return unpacked

    def _blocks(self, matrix: np.ndarray, divided: bool = True) -> tuple[np.ndarray, np.ndarray]:
        values, scale = in_blocks(torch.from_numpy(np.array(matrix)), self.bits, self.block, divided)
        return values.numpy(), scale.numpy()

    def _keep_scale(self, stored: str, scale: np.ndarray) -> None:
        """Store scales (outputs, blocks) in two bytes each where that is exact; `scales` says their float32 name."""
        name, half = stored + SCALE, scale.astype(np.float16)
        self.scales[stored] = self._constant(name, scale)
        if np.array_equal(half.astype(np.float32), scale):
            self._constant(name, half)
            self.scales[stored] = self._at_load("Cast", [name], f"{name}/float", to=TensorProto.FLOAT)

    def _scaled(self, values: str, stored: str) -> str:
        """Return the name of values (outputs, blocks, block) times the scale of their block."""
        last = self._constant(f"{stored}/last_axis", np.array([-1], np.int64))
        scale = self._at_load("Unsqueeze", [self.scales[stored], last], f"{stored}/scale_of_each")
        return self._at_load("Mul", [values, scale], f"{stored}/scaled")

    def _reshaped(self, whole: str, shape: Sequence[int], output: str) -> str:
        return self._at_load("Reshape", [whole, self._constant(f"{output}/shape", np.array(shape, np.int64))], output)

    def _first(self, count: int, stored: str) -> list[str]:
        """Return the names of Slice's inputs for the first `count` of the last axis."""
        numbers = {"start": 0, "end": count, "axis": -1}
        return [self._constant(f"{stored}/{name}", np.array([number], np.int64)) for name, number in numbers.items()]

    def _at_load(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.at_load.setdefault(output, helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name
