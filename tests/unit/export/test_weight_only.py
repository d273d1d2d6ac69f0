"""Weight-only graphs: as ONNX Runtime rounds, near the float ones, small, folded at load, loops included."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from components.core.params import Quantize
from components.export.weight_only import quantize_weights
from components.inference.session import open_session

RNG = np.random.default_rng(0)
EIGHT, FOUR = Quantize(method="weight_only"), Quantize(method="weight_only", bits=4)
FAST = Quantize(method="weight_only", activations="int8", targets=("x86-64-vnni",))
FAST_FOUR = Quantize(method="weight_only", bits=4, activations="int8")
METHODS = [EIGHT, FOUR, FAST, FAST_FOUR]
NAMES = ["int8", "int4", "int8-fast", "int4-fast"]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def network(inputs: int = 96) -> ModelProto:
    """Return a table that is looked up and multiplied by, two products, a convolution and a GRU."""
    weights = {
        "table": normal(80, inputs),
        "w": normal(inputs, 64),
        "b": normal(64),
        "v": normal(inputs, 48),
        "kernel": normal(24, 8, 3, 3),
        "channelwise": normal(120, 1, 3, 3),
        "gates": normal(1, 3 * 24, 48) / 8,
        "recurrent": normal(1, 3 * 24, 24) / 8,
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], axis=0),
        helper.make_node("Gemm", ["e", "table"], ["tied"], transB=1),
        helper.make_node("Gemm", ["e", "w", "b"], ["gemm"]),
        helper.make_node("MatMul", ["e", "v"], ["product"]),
        helper.make_node("Conv", ["picture", "kernel"], ["convolved"]),
        helper.make_node("Conv", ["many", "channelwise"], ["depthwise"], group=120),
        helper.make_node("GRU", ["steps", "gates", "recurrent"], ["states"], hidden_size=24),
    ]
    values = [
        ("ids", TensorProto.INT64, ["n"]),
        ("picture", TensorProto.FLOAT, ["n", 8, 6, 6]),
        ("many", TensorProto.FLOAT, ["n", 120, 6, 6]),
        ("steps", TensorProto.FLOAT, ["t", "n", 48]),
    ]
    outputs = [
        ("e", ["n", inputs]),
        ("tied", ["n", 80]),
        ("gemm", ["n", 64]),
        ("product", ["n", 48]),
        ("convolved", ["n", 24, 4, 4]),
        ("depthwise", ["n", 120, 4, 4]),
        ("states", ["t", 1, "n", 24]),
    ]
    return model(nodes, values, outputs, weights)


FEEDS = {
    "ids": np.array([0, 7, 79], np.int64),
    "picture": normal(3, 8, 6, 6),
    "many": normal(3, 120, 6, 6),
    "steps": normal(5, 3, 48),
}


def written(graph: ModelProto, quantize: Quantize) -> tuple[ModelProto, dict[str, Any]]:
    graphs, facts = quantize_weights({"g": graph}, quantize)
    return graphs["g"], facts


def far(got: ModelProto, expected: ModelProto, **feeds: np.ndarray) -> list[float]:
    """Return each output's root mean square difference as a share of its spread."""
    both = [open_session(graph.SerializeToString()).run(None, feeds) for graph in (got, expected)]
    return [float(np.sqrt(((a - b) ** 2).mean()) / b.std()) for a, b in zip(*both, strict=True)]


@pytest.mark.parametrize("quantize", METHODS, ids=NAMES)
@pytest.mark.parametrize("inputs", [96, 72])
def test_every_kind_of_weight_shrinks_and_answers_stay_near(quantize: Quantize, inputs: int) -> None:
    graph = network(inputs)
    quantized, facts = written(graph, quantize)
    most = 0.012 if quantize.bits == 8 else 0.15
    assert max(far(quantized, graph, **FEEDS)) < most
    numbers = facts["weights"]["all"]
    assert facts["weights"]["in_float"] < 0.01 * numbers
    padded = -(-inputs // 32) * 32 / inputs  # blocks are stored whole
    assert quantized.ByteSize() < (quantize.bits + 1) / 8 * numbers * padded + 3500
    assert [value.name for value in quantized.graph.output] == [value.name for value in graph.graph.output]


def operators(graph: ModelProto, folder: Path) -> Counter[str]:
    """Return what ONNX Runtime runs once it has folded and fused."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "run.onnx"), 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "run.onnx").graph.node)


@pytest.mark.parametrize("quantize", METHODS, ids=NAMES)
def test_nothing_but_packed_products_and_lookups_is_unpacked_at_each_call(quantize: Quantize, tmp_path: Path) -> None:
    quantized, _ = written(network(), quantize)
    kinds = operators(quantized, tmp_path)
    assert kinds["GatherBlockQuantized"] == 1
    assert kinds["MatMulNBits"] == (0 if quantize is EIGHT else 3)
    assert not kinds["Cast"] + kinds["Mul"] + kinds["Reshape"] + kinds["Unsqueeze"] + kinds["DequantizeLinear"]


def test_weights_inside_a_loop_are_covered(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Tanh", ["y"], ["next"]),
            helper.make_node("Identity", ["was"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("was", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(normal(64, 64) / 8, "w")],
    )
    loop = helper.make_node("Loop", ["count", "always", "first"], ["last"], body=body)
    graph = model(
        [loop],
        [("first", TensorProto.FLOAT, ["n", 64])],
        [("last", ["n", 64])],
        {"count": np.array(3, np.int64), "always": np.array(True)},
    )
    for quantize in METHODS:
        quantized, facts = written(graph, quantize)
        assert far(quantized, graph, first=normal(4, 64))[0] < (0.02 if quantize.bits == 8 else 0.2)
        assert facts["weights"] == {"all": 64 * 64, "in_float": 1 if quantize is EIGHT else 0}
        assert quantized.ByteSize() < 0.45 * graph.ByteSize()


def test_certificates_say_in_what_products_are_added() -> None:
    def sums(quantize: Quantize) -> dict[str, str]:
        return {k: v["sums"] for k, v in quantize_weights({}, quantize)[1]["certificates"].items()}

    assert set(sums(EIGHT).values()) == set(sums(FOUR).values()) == {"32-bit floats"}
    assert sums(FAST) == {"x86-64-vnni": "32 bits"}
    assert sums(FAST_FOUR)["x86-64-avx2"].startswith("16 bits; two products by 4-bit weights")


def test_the_same_bytes_come_twice_and_the_input_is_left_as_it_was() -> None:
    graph = network()
    before = graph.SerializeToString()
    first, second = (quantize_weights({"g": graph}, FOUR)[0]["g"].SerializeToString() for _ in range(2))
    assert first == second
    assert graph.SerializeToString() == before
