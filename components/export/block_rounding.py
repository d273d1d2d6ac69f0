"""Weights of few bits in blocks with a scale each: how `weight_only` stores them and `quantize_aware` trains them."""

from __future__ import annotations

import torch
from torch import Tensor

from components.export.qdq import halves


def in_blocks(matrix: Tensor, bits: int, block: int) -> tuple[Tensor, Tensor]:
    """Return int8 values (outputs, blocks, block) and float32 scales (outputs, blocks) of a matrix (outputs, inputs).

    The number farthest from zero becomes -2^(bits - 1), the one value of a signed number that has no opposite, whatever
    its sign: scales may be negative. Rounding is ONNX Runtime's MatMulNBitsQuantizer's. What has been rounded once has
    such a number in every block, so that rounding it again changes nothing.
    """
    blocks = matrix.float().reshape(len(matrix), -1, block)
    low, high = blocks.amin(2), blocks.amax(2)
    least = -(1 << (bits - 1))
    farthest = torch.where(-low > high, low, high) / least
    scale = torch.from_numpy(halves(farthest.cpu().numpy())).to(matrix.device)
    steps = torch.where(scale == 0, 1.0, scale)[..., None]
    return (blocks / steps).round_().clamp_(least, -least - 1).to(torch.int8), scale


def rounded_in_blocks(weight: Tensor, bits: int, block: int, divided: bool) -> Tensor:
    """Return a layer's weight (outputs, ...) as its blocks of few bits say it, in its own shape and dtype.

    divided: whether the last block of an output may be a part of one, as all have it but convolutions, which have one
    scale for an output whose inputs are no multiple of the block.
    """
    matrix = weight.detach().flatten(1)
    inputs = matrix.shape[1]
    if divided:
        matrix = torch.nn.functional.pad(matrix, (0, -inputs % block))
    elif inputs % block:
        block = inputs
    values, scale = in_blocks(matrix, bits, block)
    return (values * scale[..., None]).flatten(1)[:, :inputs].reshape(weight.shape).to(weight.dtype)
