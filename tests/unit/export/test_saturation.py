"""The 16-bit sums: the emulation counts what a loop over every place, output and pair of bytes counts."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from components.export.saturation import pair_sums, pairs_at_risk

HIGHEST, LOWEST = 32767, -32768


def convolution(  # type: ignore[no-untyped-def]
    rng, channels, outputs, group=1, stride=1, pad=1, kernel=(3, 3), dilation=1
) -> tuple[ModelProto, dict[str, object]]:
    weight = rng.integers(-127, 128, (outputs, channels // group, *kernel)).astype(np.int8)
    axes = len(kernel)
    attributes = {"strides": [stride] * axes, "pads": [pad] * 2 * axes, "dilations": [dilation] * axes, "group": group}
    return _qdq("Conv", weight, [None, channels, *[7] * axes], **attributes), {"weight": weight, **attributes}


def _qdq(kind: str, weight: np.ndarray, shape: list, **attributes: object) -> ModelProto:  # type: ignore[type-arg]
    stored = {
        "scale": np.array(0.01, np.float32),
        "zero": np.array(9, np.uint8),
        "model.layer.weight/int8": weight,
        "steps": np.array(0.01, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["x/8"]),
        helper.make_node("DequantizeLinear", ["model.layer.weight/int8", "steps"], ["model.layer.weight/8"]),
        helper.make_node(kind, ["x/8", "model.layer.weight/8"], ["y"], **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def by_force(image: np.ndarray, weight, strides, pads, dilations, group) -> list[int]:  # type: ignore[no-untyped-def]
    """Return every 16-bit sum before it saturates, of a 2-D convolution."""
    image = np.pad(image, ((0, 0), (0, 0), *[(pads[0], pads[0])] * 2), constant_values=9).astype(int)
    outputs, channels, height, width = weight.shape
    sums = []
    last = image.shape[2] - dilations[0] * (height - 1)
    for sample in image:
        for output in range(outputs):
            first = output // (outputs // group) * channels
            for y in range(0, last, strides[0]):
                for x in range(0, last, strides[0]):
                    products = [
                        sample[first + c, y + i * dilations[0], x + j * dilations[0]] * int(weight[output, c, i, j])
                        for i in range(height)
                        for j in range(width)
                        for c in range(channels)
                    ]
                    products += [0] * (len(products) % 2)
                    sums += [a + b for a, b in zip(products[::2], products[1::2], strict=True)]
    return sums


@pytest.mark.parametrize(
    "layout",
    [
        {"channels": 3, "outputs": 4},
        {"channels": 4, "outputs": 4, "group": 4},
        {"channels": 4, "outputs": 6, "group": 2, "stride": 2},
        {"channels": 2, "outputs": 2, "pad": 2, "dilation": 2},
        {"channels": 5, "outputs": 3, "kernel": (1, 1), "pad": 0},
    ],
)
def test_emulation_counts_as_brute_force_does(layout: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    model, facts = convolution(rng, **layout)
    image = rng.integers(0, 256, (2, layout["channels"], 7, 7)).astype(np.uint8)
    (found,) = pair_sums(model, [{"x": image[:1]}, {"x": image[1:]}])
    sums = np.array(by_force(image, **facts))
    assert found.layer == "layer"
    assert found.saturated == ((sums > HIGHEST) | (sums < LOWEST)).sum() > 0
    assert found.highest == sums.max()
    assert found.lowest == sums.min()


def test_a_matrix_product_pairs_neighbouring_inputs() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (10, 4)).astype(np.int8)
    x = rng.integers(0, 256, (50, 10)).astype(np.uint8)
    (found,) = pair_sums(_qdq("MatMul", weight, [None, 10]), [{"x": x}])
    products = x[:, :, None].astype(int) * weight
    sums = products[:, ::2] + products[:, 1::2]
    assert found.saturated == ((sums > HIGHEST) | (sums < LOWEST)).sum() > 0


def test_only_pairs_that_some_bytes_make_overflow_are_at_risk() -> None:
    weight = np.array([[[64, 64, 100, 29, -127, -2, -100, 127, 127]]], np.int8)
    assert pairs_at_risk(weight).tolist() == [[0, 0, 2], [0, 0, 4]]
