"""Whether an int8 graph computes the same on processors that add products of bytes in 16 bits.

VPMADDUBSW (SSSE3, AVX2, AVX-512BW) multiplies unsigned by signed bytes and adds each two neighbouring products in a
signed 16-bit number that saturates; VNNI's VPDPBUSD adds four in 32 bits. (Intel 64 manual, volume 2.) A graph is exact
on the former where no pair leaves 16 bits. Neighbours are taken as channels-last kernels take them: kernel row, kernel
column, channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from components.export.attributes import attribute
from components.export.calibration import Feeds, showing
from components.export.qdq import LAYERS, layer_name
from components.inference.session import open_session

LARGEST_BYTE = 255
LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1


@dataclass(frozen=True)
class PairSums:
    """What one layer's pairs came to: `at_risk` of them leave 16 bits for some input, `saturated` sums did."""

    layer: str
    pairs: int
    at_risk: int
    saturated: int
    lowest: int
    highest: int


@dataclass(frozen=True)
class _Int8Layer:
    """One layer's operands by name, and its weight int8 (groups, outputs of a group, inputs of an output)."""

    name: str
    node: NodeProto
    activation: str
    zero: int
    weight_GNK: np.ndarray
    kernel: tuple[int, ...] | None  # of a convolution


def pair_sums(quantized: ModelProto, feeds: Sequence[Feeds]) -> list[PairSums]:
    """Run a QDQ graph on inputs and emulate the 16-bit sums of each of its int8 layers."""
    found = _int8_layers(quantized)
    if not found:
        return []
    names = list(dict.fromkeys(layer.activation for layer in found))
    session = open_session(showing(quantized, names, TensorProto.UINT8).SerializeToString())
    runs = [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]
    return [_sums_of(layer, [run[layer.activation] for run in runs]) for layer in found]


def pairs_at_risk(weight_GNK: np.ndarray) -> np.ndarray:
    """Return int64 (pairs at risk, 3): group, output and first of two neighbouring weights some bytes make overflow."""
    first, second = _neighbours(weight_GNK)
    upper = LARGEST_BYTE * (np.maximum(first, 0) + np.maximum(second, 0))
    lower = LARGEST_BYTE * (np.minimum(first, 0) + np.minimum(second, 0))
    group, output, pair = np.nonzero((upper > HIGHEST) | (lower < LOWEST))
    return np.stack([group, output, 2 * pair], 1)


def _neighbours(weight_GNK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    even = np.pad(weight_GNK, ((0, 0), (0, 0), (0, weight_GNK.shape[-1] % 2))).astype(np.int32)
    return even[..., ::2], even[..., 1::2]


def _sums_of(layer: _Int8Layer, activations: Sequence[np.ndarray]) -> PairSums:
    risky = pairs_at_risk(layer.weight_GNK)
    lowest = highest = saturated = 0
    for activation in activations:
        columns = _Columns(layer, activation)
        for group, output, k in risky.tolist():
            weights = layer.weight_GNK[group, output, k : k + 2].astype(np.int32)
            sums = columns.of(group, k) * weights[0] + columns.of(group, k + 1) * weights[1]
            lowest, highest = min(lowest, int(sums.min())), max(highest, int(sums.max()))
            saturated += int(((sums > HIGHEST) | (sums < LOWEST)).sum())
    groups, outputs, inputs = layer.weight_GNK.shape
    return PairSums(layer.name, groups * outputs * ((inputs + 1) // 2), len(risky), saturated, lowest, highest)


class _Columns:
    """What each weight of an output is multiplied with, at every place: int32 arrays, made when asked for."""

    def __init__(self, layer: _Int8Layer, activation: np.ndarray) -> None:
        self.layer, self.made = layer, dict[tuple[int, int], np.ndarray]()
        self.values = activation.astype(np.int32)
        if layer.kernel:
            axes = len(layer.kernel)
            pads = _ints(layer.node, "pads", [0] * 2 * axes)
            sides = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
            self.values = np.pad(self.values, sides, constant_values=layer.zero)

    def of(self, group: int, k: int) -> np.ndarray:
        """Return the activations that weight `k` of a group's outputs meets, in any order that all k share."""
        if (group, k) not in self.made:
            self.made[group, k] = self._column(group, k)
        return self.made[group, k]

    def _column(self, group: int, k: int) -> np.ndarray:
        if self.layer.kernel is None:
            return self.values[..., k]
        kernel, sizes = self.layer.kernel, self.values.shape[2:]
        place, channel = divmod(k, self._channels())
        strides, dilations = (_ints(self.layer.node, name, [1] * len(kernel)) for name in ("strides", "dilations"))
        window: list[Any] = [slice(None), group * self._channels() + channel]
        for at, size, whole, stride, apart in zip(
            np.unravel_index(place, kernel), kernel, sizes, strides, dilations, strict=True
        ):
            window.append(slice(int(at) * apart, int(at) * apart + whole - apart * (size - 1), stride))
        return self.values[tuple(window)]

    def _channels(self) -> int:
        """Return how many channels of the activation each group reads."""
        return self.values.shape[1] // len(self.layer.weight_GNK)


def _int8_layers(model: ModelProto) -> list[_Int8Layer]:
    """Return the layers of a QDQ graph whose two operands are read from 8 bits."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    read = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found = []
    for node in model.graph.node:
        if node.op_type in LAYERS and node.input[0] in read and node.input[1] in read:
            x, w = read[node.input[0]], read[node.input[1]]
            weight = stored[w.input[0]]
            kernel = tuple(weight.shape[2:]) if node.op_type == "Conv" else None
            zero = int(stored[x.input[2]]) if len(x.input) > 2 else 0
            matrix = _as_GNK(node, weight)
            found.append(_Int8Layer(layer_name(w.output[0]), node, x.input[0], zero, matrix, kernel))
    return found


def _as_GNK(node: NodeProto, weight: np.ndarray) -> np.ndarray:
    if node.op_type == "Conv":  # (outputs, channels of a group, rows, columns)
        groups = int(attribute(node, "group", 1))
        return np.moveaxis(weight, 1, -1).reshape(groups, len(weight) // groups, -1)
    return (weight if attribute(node, "transB", 0) else weight.T)[None]


def _ints(node: NodeProto, name: str, default: Sequence[int]) -> list[int]:
    values = next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)
    return list(values)
