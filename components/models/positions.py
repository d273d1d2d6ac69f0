"""Sinusoidal positions (Vaswani et al. 2017, 3.5), added to the token embeddings or concatenated with them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Mode = Literal["add", "concat"]
MAX_LENGTH = 128


def check_width(width: int, mode: Mode) -> None:
    """Refuse a width that positions do not fit: a sine and a cosine for each of their columns' pairs.

    Raises:
        ValueError: and which widths fit.
    """
    step = 2 if mode == "add" else 8
    if width % step:
        raise ValueError(f"width: {width} is no multiple of {step}, which positions: {mode} needs")


def sinusoids(position: Tensor, width: int) -> Tensor:
    """Return float32 (..., width) of positions (...): sines in the first half of the columns, cosines in the second."""
    wavelength = 10000 ** (2 * torch.arange(width // 2, device=position.device).float() / width)
    angle = position[..., None].float() / wavelength
    return torch.cat([angle.sin(), angle.cos()], -1)


class TokenEmbedding(nn.Module):
    """Token ids to vectors that carry their position; the same table reads the model's outputs where it is tied.

    "add" sums the two (the paper's way); "concat" gives positions a quarter of the width of their own. Positions are
    computed, in float32 at every precision: as a table they were a tenth of a small translator's file, and rounded.
    """

    def __init__(self, vocabulary: int, width: int, mode: Mode, pad: int) -> None:
        super().__init__()
        positions = width if mode == "add" else width // 4
        self.mode, self.position_width = mode, positions
        self.token_width = width if mode == "add" else width - positions
        self.table = nn.Embedding(vocabulary, self.token_width, padding_idx=pad)
        nn.init.normal_(self.table.weight, std=self.token_width**-0.5)
        with torch.no_grad():
            self.table.weight[pad].zero_()

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Return (B, L, width) for a whole sequence that starts at position 0."""
        return self._combine(ids_BL, torch.arange(ids_BL.shape[1], device=ids_BL.device))

    def at(self, ids_B1: Tensor, position: Tensor) -> Tensor:
        """Return (B, 1, width) for one token at `position`, an int64 scalar."""
        return self._combine(ids_B1, position[None])

    def _combine(self, ids_BL: Tensor, position_L: Tensor) -> Tensor:
        tokens_BLE = self.table(ids_BL) * math.sqrt(self.token_width)
        positions_LP = sinusoids(position_L, self.position_width).to(tokens_BLE.dtype)
        if self.mode == "add":
            return tokens_BLE + positions_LP
        return torch.cat([tokens_BLE, positions_LP.expand(ids_BL.shape[0], -1, -1)], -1)

    def logits(self, x_NW: Tensor, bias_V: Tensor) -> Tensor:
        """Return (N, vocabulary) scores of the tokens by the tied table."""
        return nn.functional.linear(x_NW[:, : self.token_width], self.table.weight, bias_V)
