"""Blocks of few bits: as ONNX Runtime rounds, near what they stand for, and the same when rounded again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer

from components.export.block_rounding import in_blocks, rounded_in_blocks


def blocks_of(matrix: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    values, scale = in_blocks(torch.from_numpy(np.ascontiguousarray(matrix)), bits, block)
    return values.numpy(), scale.numpy()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block", [16, 32, 128])
def test_rounding_is_that_of_onnxruntimes_own_quantizer_but_for_half_precision_scales(bits: int, block: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, bits=bits)
    packed, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(matrix)
    codes = packed if bits == 8 else np.stack([packed & 15, packed >> 4], -1)
    values, scale = blocks_of(matrix.T, bits, block)
    np.testing.assert_allclose(scale, scales.reshape(scale.shape), rtol=2**-11)
    difference = np.abs(values - (codes.reshape(values.shape).astype(np.int16) - (1 << (bits - 1))))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(32)), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([8, 4]),
)
def test_values_are_within_half_a_step_but_one_for_the_missing_opposite(matrix: np.ndarray, bits: int) -> None:
    values, scale = blocks_of(matrix, bits, 16)
    steps = np.abs(scale)[..., None]
    error = np.abs(values * scale[..., None] - matrix.reshape(values.shape))
    most = np.where(np.abs(matrix.reshape(values.shape)) > steps * ((1 << (bits - 1)) - 1), 1.1, 0.57)
    assert (error <= most * steps + 1e-6).all()


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.floats(-100, 100, width=32)
    ),
    st.sampled_from([8, 4]),
    st.booleans(),
)
def test_rounded_weights_stay_what_they_are(matrix: np.ndarray, bits: int, divided: bool) -> None:
    once = rounded_in_blocks(torch.from_numpy(matrix), bits, 16, divided)
    assert torch.equal(rounded_in_blocks(once, bits, 16, divided), once)
