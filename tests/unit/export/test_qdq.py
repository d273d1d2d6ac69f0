"""Static int8 graphs: near the float ones, in operators ONNX Runtime runs in int8, small, and exact where reduced."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import ModelProto, TensorProto, helper, numpy_helper

from components.export.calibration import showing
from components.export.compact import compact
from components.export.int8_forms import with_int8_forms
from components.export.qdq import full_scale, layers, quantize_qdq, range_tensors, reduced_scale, rounded, rows
from components.inference.session import open_session

RNG = np.random.default_rng(0)
MEAN, DEVIATION = np.array([90.0, 97, 104]), np.array([51.0, 35, 30])


def network(channels: int = 3) -> ModelProto:
    """Return normalization, two convolutions with ReLUs, a mean over the picture and a product, as torch gives them."""
    weights = {
        "mean": MEAN[:channels, None, None].astype(np.float32),
        "factor": (1 / DEVIATION[:channels, None, None]).astype(np.float32),
        "model.a.weight": RNG.normal(size=(8, channels, 3, 3)).astype(np.float32),
        "a_bias": RNG.normal(size=8).astype(np.float32),
        "model.b.weight": RNG.normal(size=(16, 8, 1, 1)).astype(np.float32),
        "b_bias": RNG.normal(size=16).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
        "model.head.weight": RNG.normal(size=(5, 16)).astype(np.float32),
        "head_bias": RNG.normal(size=5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["c", "mean"], ["s"]),
        helper.make_node("Mul", ["s", "factor"], ["x"]),
        helper.make_node("Conv", ["x", "model.a.weight", "a_bias"], ["a"], pads=[1, 1, 1, 1], group=1),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Conv", ["ra", "model.b.weight", "b_bias"], ["b"], kernel_shape=[1, 1], auto_pad="NOTSET"),
        helper.make_node("Relu", ["b"], ["rb"]),
        helper.make_node("ReduceMean", ["rb", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "model.head.weight", "head_bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 12, 12, channels])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def images(channels: int, count: int = 16) -> np.ndarray:
    pixels = RNG.normal(MEAN[:channels], DEVIATION[:channels], (count, 12, 12, channels))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def run(model: ModelProto, image: np.ndarray, *names: str) -> list[np.ndarray]:
    return open_session(model.SerializeToString()).run(list(names) or None, {"image": image})


def quantized(channels: int = 3, **changes: object) -> tuple[ModelProto, ModelProto, np.ndarray]:
    model, image = network(channels), images(channels)
    formed = with_int8_forms(model)
    names = range_tensors(formed.graph)
    values = run(showing(formed, names, TensorProto.FLOAT), image, *names)
    ranges = {name: (float(v.min()), float(v.max())) for name, v in zip(names, values, strict=True)}
    return model, quantize_qdq(formed, ranges, **changes), image  # type: ignore[arg-type]


def far(got: ModelProto, expected: ModelProto, image: np.ndarray) -> float:
    (a,), (b,) = run(got, image), run(expected, image)
    return float(np.abs(a - b).max() / b.std())


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_mean_the_same_without_normalization_when_the_padding_is_its_mean(channels: int) -> None:
    model, image = network(channels), images(channels)
    formed = with_int8_forms(model)
    assert not {"Cast", "Sub", "Mul", "ReduceMean"} & {node.op_type for node in formed.graph.node}
    names = [node.input[0] for node in formed.graph.node if node.op_type == "Relu"]
    (got,) = run(showing(formed, names[:1], TensorProto.FLOAT), image, names[0])
    (expected,) = run(showing(model, names[:1], TensorProto.FLOAT), image, names[0])
    inside = np.s_[:, :, 1:-1, 1:-1]  # what no padding reaches
    np.testing.assert_allclose(got[inside], expected[inside], rtol=1e-3, atol=1e-3)
    assert np.abs(got - expected).max() < 0.5 * np.abs(expected).max()


def test_forms_leave_a_normalization_alone_when_something_else_reads_it() -> None:
    model = network()
    model.graph.node.append(helper.make_node("Relu", ["s"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    assert {"Cast", "Sub", "Mul"} <= {node.op_type for node in with_int8_forms(model).graph.node}


def run_as(graph: ModelProto, folder: Path) -> Counter[str]:
    """Return how often each operator stands in the graph that ONNX Runtime makes of one."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "run.onnx"), 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "run.onnx").graph.node)


@pytest.mark.parametrize("layer", ["a", "b"])
def test_layer_in_float_is_float_in_onnx_runtime_too(layer: str, tmp_path: Path) -> None:
    _, graph, _ = quantized(in_float=[layer])
    kinds = run_as(graph, tmp_path)
    assert kinds["Conv"] + kinds["FusedConv"] == kinds["QLinearConv"] == 1


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-12, 1e-7, 1e-5])
@pytest.mark.parametrize("layer", ["model.b", "model.head"])
def test_bias_survives_weights_of_next_to_nothing(size: float, layer: str) -> None:
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == f"{layer}.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(size), tensor.name))
    formed, image = with_int8_forms(model), images(3)
    names = range_tensors(formed.graph)
    values = run(showing(formed, names, TensorProto.FLOAT), image, *names)
    ranges = {name: (float(v.min()), float(v.max())) for name, v in zip(names, values, strict=True)}
    reduced = {layer.name for layer in layers(formed.graph)}  # else it is exact on processors with VNNI alone
    (got,), (expected,) = run(quantize_qdq(formed, ranges, reduced=reduced), image), run(model, image)
    np.testing.assert_allclose(got, expected, atol=0.2)  # a bias is about 1


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_are_near_and_every_layer_runs_in_int8(channels: int, tmp_path: Path) -> None:
    model, graph, image = quantized(channels)
    assert far(graph, model, image) < 0.12
    kinds = run_as(graph, tmp_path)
    assert kinds["QLinearConv"] == 2
    assert kinds["QGemm"] == kinds["QLinearGlobalAveragePool"] == 1
    assert not kinds["Conv"] + kinds["Gemm"] + kinds["Relu"] + kinds["Cast"]


def test_named_layers_stay_in_float() -> None:
    model, graph, image = quantized(in_float={"a", "head"})
    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    assert stored["model.a.weight"] == stored["model.head.weight"] == TensorProto.FLOAT
    assert stored["model.b.weight/int8"] == TensorProto.INT8
    assert far(graph, model, image) < 0.12
    _, untouched, _ = quantized(in_float={layer.name for layer in layers(network().graph)})
    assert not [node for node in untouched.graph.node if node.op_type == "QuantizeLinear"]


def test_compact_answers_the_same_in_fewer_bytes() -> None:
    _, graph, image = quantized()
    small = ModelProto()
    small.CopyFrom(graph)
    compact(small)
    onnx.checker.check_model(small, full_check=True)
    assert np.array_equal(run(small, image)[0], run(graph, image)[0])
    assert small.ByteSize() < 0.75 * graph.ByteSize()
    assert [value.name for value in (*small.graph.input, *small.graph.output)] == ["image", "logits"]


WEIGHTS = arrays.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 4), elements=st.floats(-100, 100, width=32))


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, st.sampled_from([0, 1]))
def test_reduced_neighbours_never_leave_16_bits(weight: np.ndarray, axis: int) -> None:
    values = rows(rounded(weight, axis, reduced_scale(weight, axis)), axis).astype(np.int32)
    values = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    for sign in (1, -1):
        one_way = np.maximum(sign * values, 0)
        assert (255 * (one_way[:, ::2] + one_way[:, 1::2])).max(initial=0) <= 32767


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, st.sampled_from([0, 1]))
def test_rounded_weights_are_within_half_a_step(weight: np.ndarray, axis: int) -> None:
    scale = full_scale(weight, axis)
    shape = [-1 if i == axis else 1 for i in range(4)]
    back = rounded(weight, axis, scale) * scale.reshape(shape)
    assert (np.abs(back - weight) <= 0.57 * scale.reshape(shape) + 1e-30).all()  # 127.06 rounds to 127
