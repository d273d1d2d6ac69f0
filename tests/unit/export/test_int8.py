"""The int8 pass: close to float, a quarter of the bytes, one copy of a tied table, loops included."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from components.core.errors import ModelpressError
from components.core.params import Quantize
from components.export.int8 import check_worthwhile, quantize_dynamic, quantize_int8
from components.export.saturation import pairs_at_risk
from components.inference.session import open_session

RNG = np.random.default_rng(0)


def model(nodes, inputs, outputs, weights) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(graph: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    return open_session(graph.SerializeToString()).run(None, inputs)


def close(got: np.ndarray, expected: np.ndarray, tolerance: float = 0.03) -> None:
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def product(weight: np.ndarray) -> onnx.ModelProto:
    rows, columns = weight.shape
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", rows])],
        [("y", ["n", columns])],
        {"w": weight},
    )


def stored(graph: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(found) for found in graph.graph.initializer if found.name == name)


WEIGHTS = arrays.arrays(np.float32, (32, 33), elements=st.floats(-100, 100, width=32), fill=st.floats(-1, 1, width=32))


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, st.booleans())
def test_weights_are_within_half_a_step_and_no_pair_of_products_leaves_sixteen_bits(
    weight: np.ndarray, reduced: bool
) -> None:
    quantized = quantize_int8(product(weight), reduced)
    values, scale = stored(quantized, "w/int8"), stored(quantized, "w/scale")
    assert (np.abs(values * scale - weight) <= 0.5001 * scale).all()
    assert np.abs(values).max() <= 127
    if reduced:
        assert len(pairs_at_risk(values.T[None])) == 0


def test_large_activations_and_weights_are_exact_on_this_processor() -> None:
    """Without reduced steps a processor that adds two products in 16 bits answers half of this."""
    weight = np.full((64, 32), 100, np.float32)
    x = np.full((3, 64), 255, np.float32)
    np.testing.assert_allclose(run(quantize_int8(product(weight)), x=x)[0], x @ weight, rtol=0.01)


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gemm-transposed"])
def test_product_stays_close_and_shrinks_to_a_quarter(op: str) -> None:
    weight = RNG.standard_normal((64, 96)).astype(np.float32)
    bias = RNG.standard_normal(96).astype(np.float32)
    stored = np.ascontiguousarray(weight.T) if op == "Gemm-transposed" else weight
    attributes = {"transB": 1} if op == "Gemm-transposed" else {}
    inputs = ["x", "w"] if op == "MatMul" else ["x", "w", "b"]
    graph = model(
        [helper.make_node(op.split("-")[0], inputs, ["y"], **attributes)],
        [("x", TensorProto.FLOAT, ["n", 64])],
        [("y", ["n", 96])],
        {"w": stored, "b": bias},
    )
    quantized = quantize_int8(graph)
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    close(run(quantized, x=x)[0], run(graph, x=x)[0])
    assert quantized.ByteSize() < 0.4 * graph.ByteSize()
    assert all(node.op_type not in ("MatMul", "Gemm") for node in quantized.graph.node)


def test_tied_table_is_stored_once() -> None:
    table = RNG.standard_normal((200, 32)).astype(np.float32)
    graph = model(
        [
            helper.make_node("Gather", ["w", "ids"], ["e"], axis=0),
            helper.make_node("Gemm", ["e", "w"], ["y"], transB=1),
        ],
        [("ids", TensorProto.INT64, ["n"])],
        [("e", ["n", 32]), ("y", ["n", 200])],
        {"w": table},
    )
    quantized = quantize_int8(graph)
    int8 = [t for t in quantized.graph.initializer if t.data_type == TensorProto.INT8]
    assert [tuple(t.dims) for t in int8] == [(200, 32)]
    ids = np.array([0, 7, 199], np.int64)
    for got, expected in zip(run(quantized, ids=ids), run(graph, ids=ids), strict=True):
        close(got, expected)


def test_one_input_of_several_products_is_quantized_once() -> None:
    weights = {f"w{i}": RNG.standard_normal((64, 64)).astype(np.float32) for i in range(3)}
    graph = model(
        [helper.make_node("MatMul", ["x", name], [f"y{name}"]) for name in weights],
        [("x", TensorProto.FLOAT, ["n", 64])],
        [(f"y{name}", ["n", 64]) for name in weights],
        weights,
    )
    quantized = quantize_int8(graph)
    assert sum(node.op_type == "DynamicQuantizeLinear" for node in quantized.graph.node) == 1
    x = RNG.standard_normal((4, 64)).astype(np.float32)
    for got, expected in zip(run(quantized, x=x), run(graph, x=x), strict=True):
        close(got, expected)


@pytest.mark.parametrize(("op", "gates"), [("GRU", 3), ("LSTM", 4)])
def test_recurrent_weights_are_stored_as_int8_and_unpacked_when_the_graph_is_loaded(
    op: str, gates: int, tmp_path: Path
) -> None:
    weights = {
        "w": RNG.standard_normal((1, gates * 32, 48)).astype(np.float32) / 8,
        "r": RNG.standard_normal((1, gates * 32, 32)).astype(np.float32) / 8,
    }
    graph = model(
        [helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=32)],
        [("x", TensorProto.FLOAT, ["t", "n", 48])],
        [("y", ["t", 1, "n", 32])],
        weights,
    )
    quantized = quantize_int8(graph)
    x = RNG.standard_normal((6, 2, 48)).astype(np.float32)
    close(run(quantized, x=x)[0], run(graph, x=x)[0])
    assert quantized.ByteSize() < 0.4 * graph.ByteSize()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node] == [op]


def test_input_model_is_left_as_it_was() -> None:
    graph = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 64])],
        [("y", ["n", 64])],
        {"w": RNG.standard_normal((64, 64)).astype(np.float32)},
    )
    before = graph.SerializeToString()
    quantize_int8(graph)
    assert graph.SerializeToString() == before


def convolution_and_product(filters: int) -> onnx.ModelProto:
    weights = {
        "k": RNG.normal(size=(filters, 8, 3, 3)).astype(np.float32),
        "w": RNG.normal(size=(filters, 40)).astype(np.float32),
    }
    return model(
        [
            helper.make_node("Conv", ["x", "k"], ["c"]),
            helper.make_node("ReduceMax", ["c", "axes"], ["m"], keepdims=0),
            helper.make_node("MatMul", ["m", "w"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["n", 8, 9, 9])],
        [("y", ["n", 40])],
        {**weights, "axes": np.array([2, 3])},
    )


def test_weights_that_stay_in_float_are_counted_without_scales() -> None:
    _, facts = quantize_dynamic({"g": convolution_and_product(64)}, Quantize())
    assert facts["weights"] == {"all": 64 * 8 * 9 + 64 * 40, "in_float": 64 * 8 * 9}
    check_worthwhile(facts["weights"])


def test_int8_by_name_alone_is_refused() -> None:
    check_worthwhile({"all": 10_000, "in_float": 9_000})
    check_worthwhile({"all": 7_000, "in_float": 7_000})  # too few to be worth anything in any form
    check_worthwhile({"all": 0, "in_float": 0})
    with pytest.raises(ModelpressError, match=r"would hold 9.9% of the weights.*method: static"):
        check_worthwhile({"all": 10_000, "in_float": 9_010})
