"""Dynamic int8: weights per output channel, activations as they come; products in int8, the rest in float.

The pass knows the whole graph, loops included: one copy of a table serves the embedding and the output layer, and
weights of recurrent operators are stored as int8 and unpacked once, when the graph is loaded.
ONNX operators DynamicQuantizeLinear and MatMulInteger; the pattern is the one ONNX Runtime fuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from components.core.errors import ModelpressError
from components.core.params import Quantize
from components.export.attributes import attribute
from components.export.initializers import SCALE, all_graphs, arrays, count_floats, share_initializers
from components.export.qdq import SIXTEEN_BIT, full_scale, reduced_scale, rounded

SUMS = {"x86-64-vnni": "32 bits", SIXTEEN_BIT: "16 bits; no two neighbouring weights of a sign make more than 128"}
LEAST = 0.1  # share of the weights below which a graph is int8 by name alone
WORTHWHILE = 8000  # weights: a smaller graph is neither large nor slow, whatever form it has
SMALLEST = 1024  # elements: smaller tensors are not worth a scale
RECURRENT = {"GRU": (1, 2), "LSTM": (1, 2), "RNN": (1, 2)}  # inputs that hold weights


def quantize_dynamic(
    graphs: Mapping[str, ModelProto], quantize: Quantize
) -> tuple[dict[str, ModelProto], dict[str, Any]]:
    """Return float graphs in int8, exact on the targets, and what is to be known of them, for the manifest."""
    reduced = SIXTEEN_BIT in quantize.targets
    written = {name: quantize_int8(graph, reduced) for name, graph in graphs.items()}
    weights = count_floats(graphs.values(), written.values())
    certificates = {target: {"sums": SUMS[target]} for target in quantize.targets}
    return written, {"method": "dynamic", "weights": weights, "certificates": certificates}


def check_worthwhile(weights: Mapping[str, int]) -> None:
    """Refuse a graph that is int8 by name alone. weights: what `quantize_dynamic` noted of it.

    Raises:
        ModelpressError: of many weights hardly any became int8.
    """
    held = weights["all"] - weights["in_float"]
    if weights["all"] >= WORTHWHILE and held < LEAST * weights["all"]:
        raise ModelpressError(
            f"dynamic int8 would hold {held / weights['all']:.1%} of the weights: it takes those of products, tables "
            f"and recurrent layers from {SMALLEST} on, and no convolutions; give the variant "
            "quantize: {method: static}, or weight_only where the graph has a loop"
        )


def quantize_int8(model: ModelProto, reduced: bool = True) -> ModelProto:
    """Return a model whose matrix products, embedding tables and recurrent weights are int8.

    reduced: scale weights so that no two neighbouring products leave 16 bits (`qdq.reduced_scale`), for processors that
    add them there: unreduced, a translator gave every third sentence another answer on AVX2 alone.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    for graph in reversed(list(all_graphs(quantized.graph))):  # inner ones first: rewriting a graph copies its nodes
        _GraphInt8(graph, reduced).run()
    share_initializers(quantized)
    onnx.checker.check_model(quantized)
    return quantized


class _GraphInt8:
    """The pass over one graph's own nodes and weights: `stored` remembers which weights are int8 already."""

    def __init__(self, graph: GraphProto, reduced: bool) -> None:
        self.graph, self.reduced = graph, reduced
        self.weights = {n: w for n, w in arrays(graph).items() if w.dtype == np.float32 and w.size >= SMALLEST}
        self.stored: dict[str, tuple[int, bool, bool]] = {}
        self.at_load: dict[str, NodeProto] = {}  # nodes over weights alone, which ONNX Runtime folds when it loads
        self.inputs_quantized: set[str] = set()

    def run(self) -> None:
        lookups = [node for node in self.graph.node if node.op_type == "Gather" and self._is_table(node)]
        self.tables = {node.input[0] for node in lookups}
        nodes = [new for node in self.graph.node for new in self._rewrite(node)]
        del self.graph.node[:]
        self.graph.node.extend([*self.at_load.values(), *nodes])

    def _rewrite(self, node: NodeProto) -> list[NodeProto]:
        if node.op_type in ("MatMul", "Gemm") and self._is_product(node):
            return self._product(node)
        if node.op_type == "Gather" and self._is_table(node):
            return self._lookup(node)
        if node.op_type in RECURRENT:
            self._unpack_recurrent(node)
        return [node]

    def _is_product(self, node: NodeProto) -> bool:
        plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(
            node, "transA", 0
        )
        return plain and node.input[1] in self.weights and self.weights[node.input[1]].ndim == 2

    def _is_table(self, node: NodeProto) -> bool:
        weight = self.weights.get(node.input[0])
        return weight is not None and weight.ndim == 2 and attribute(node, "axis", 0) == 0

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """Quantize the input (once, however many products read it), multiply in int8, scale, add the bias."""
        x, name, y = node.input[0], node.input[1], node.output[0]
        weight = self._matrix(name, transposed=bool(attribute(node, "transB", 0)))
        quantized, scale, zero = (f"{x}/{part}" for part in ("int8", "scale", "zero"))
        nodes = []
        if x not in self.inputs_quantized:
            nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [quantized, scale, zero], f"{x}/quantize"))
            self.inputs_quantized.add(x)
        bias = node.input[2] if len(node.input) > 2 else ""
        scaled = f"{y}/scaled" if bias else y
        nodes += [
            helper.make_node("MatMulInteger", [quantized, weight, zero], [f"{y}/int32"], f"{y}/product"),
            helper.make_node("Cast", [f"{y}/int32"], [f"{y}/float"], f"{y}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, f"{name}{SCALE}"], [f"{y}/scales"], f"{y}/scale_both"),
            helper.make_node("Mul", [f"{y}/float", f"{y}/scales"], [scaled], f"{y}/rescale"),
        ]
        if bias:
            nodes.append(helper.make_node("Add", [scaled, bias], [y], f"{y}/bias"))
        return nodes

    def _matrix(self, name: str, transposed: bool) -> str:
        """Return the name of an int8 (in, out) matrix; transposed: the float weight is (out, in), as a table is."""
        if transposed and name in self.tables:  # it lies as the table does, a row a token: turned around at load
            self._store(name, axis=0)
            turned = f"{name}/int8_turned"
            self.at_load[turned] = helper.make_node("Transpose", [f"{name}/int8"], [turned], turned, perm=[1, 0])
            return turned
        self._store(name, axis=0 if transposed else 1, turn=transposed)
        return f"{name}/int8"

    def _lookup(self, node: NodeProto) -> list[NodeProto]:
        """Gather int8 rows and their scales."""
        name, ids, y = node.input[0], node.input[1], node.output[0]
        self._store(name, axis=0)
        last = self._constant(f"{name}/last_axis", np.array([-1], np.int64))
        return [
            helper.make_node("Gather", [f"{name}/int8", ids], [f"{y}/row_int8"], f"{y}/rows"),
            helper.make_node("Cast", [f"{y}/row_int8"], [f"{y}/row_float"], f"{y}/cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}{SCALE}", ids], [f"{y}/row_scale"], f"{y}/row_scales"),
            helper.make_node("Unsqueeze", [f"{y}/row_scale", last], [f"{y}/row_scale_last"], f"{y}/row_scales_last"),
            helper.make_node("Mul", [f"{y}/row_float", f"{y}/row_scale_last"], [y], f"{y}/rescale"),
        ]

    def _unpack_recurrent(self, node: NodeProto) -> None:
        """Let a recurrent operator, which has no int8 form, read weights unpacked when the graph is loaded."""
        for index in RECURRENT[node.op_type]:
            name = node.input[index]
            if name in self.weights:
                self._store(name, axis=1, recurrent=True)
                wide, unpacked = f"{name}/wide", f"{name}/unpacked"
                # not a DequantizeLinear, which ONNX Runtime keeps as it is and computes in every run
                self.at_load[wide] = helper.make_node("Cast", [f"{name}/int8"], [wide], wide, to=TensorProto.FLOAT)
                self.at_load[unpacked] = helper.make_node("Mul", [wide, f"{name}{SCALE}"], [unpacked], unpacked)
                node.input[index] = unpacked

    def _store(self, name: str, axis: int, turn: bool = False, recurrent: bool = False) -> None:
        """Store a weight in int8, once. A recurrent one (directions, outputs, inputs) is never multiplied in bytes."""
        how = axis, turn, recurrent
        if name in self.stored:
            assert self.stored[name] == how, f"{name}: read in two layouts, of which only one can be stored"
            return
        self.stored[name] = how
        weight = self.weights[name]
        scale = (reduced_scale if self.reduced and not recurrent else full_scale)(weight, axis)
        values = rounded(weight, axis, scale)
        self._constant(f"{name}/int8", np.ascontiguousarray(values.T) if turn else values)
        self._constant(f"{name}{SCALE}", scale[:, None] if recurrent else scale)

    def _constant(self, name: str, value: np.ndarray) -> str:
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name
