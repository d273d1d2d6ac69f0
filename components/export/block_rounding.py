"""Weights of few bits in blocks with a scale each: how `weight_only` stores them and `quantize_aware` trains them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from components.export.qdq import halves


def in_blocks(matrix: Tensor, bits: int, block: int, divided: bool = True) -> tuple[Tensor, Tensor]:
    """Return int8 values (outputs, blocks, block) and float32 scales (outputs, blocks) of a matrix (outputs, inputs).

    divided: the last block may be a part of one, filled up with zeros; else an output whose inputs are no multiple of
    the block has one scale, as a convolution has it: filled up, a depthwise one's 9 numbers would be 32.

    The number farthest from zero becomes -2^(bits - 1), the one value of a signed number that has no opposite, whatever
    its sign: scales may be negative. Rounding is ONNX Runtime's MatMulNBitsQuantizer's. What has been rounded once has
    such a number in every block, so that rounding it again changes nothing.
    """
    inputs = matrix.shape[1]
    if divided:
        matrix = F.pad(matrix, (0, -inputs % block))
    elif inputs % block:
        block = inputs
    blocks = matrix.float().reshape(len(matrix), -1, block)
    low, high = blocks.amin(2), blocks.amax(2)
    least = -(1 << (bits - 1))
    farthest = torch.where(-low > high, low, high) / least
    scale = torch.from_numpy(halves(farthest.cpu().numpy())).to(matrix.device)
    steps = torch.where(scale == 0, 1.0, scale)[..., None]
    return (blocks / steps).round_().clamp_(least, -least - 1).to(torch.int8), scale


def rounded_in_blocks(weight: Tensor, bits: int, block: int, divided: bool) -> Tensor:
    """Return a layer's weight (outputs, ...) as its blocks of few bits say it, in its own shape and dtype."""
    matrix = weight.detach().flatten(1)
    values, scale = in_blocks(matrix, bits, block, divided)
    return (values * scale[..., None]).flatten(1)[:, : matrix.shape[1]].reshape(weight.shape).to(weight.dtype)
