"""WaveNet (van den Oord et al. 2016): gated, dilated, causal convolutions with residual and skip connections.

A convolution of two steps is a product over "now and `dilation` steps ago": the same weights serve whole sequences and
one step at a time. Shapes: B rows, T steps, W width, S skip channels, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedLayer(nn.Module):
    """x + residual, and skip, of tanh(filter) * sigmoid(gate); filter and gate see x now and `dilation` steps ago."""

    def __init__(self, width: int, skip: int, dilation: int) -> None:
        super().__init__()
        self.dilation, self.sizes = dilation, [width, skip]
        self.gates = nn.Linear(2 * width, 2 * width)
        self.outputs = nn.Linear(width, width + skip)
        for linear in (self.gates, self.outputs):  # torch's own start would let the signal fade from layer to layer
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x_BTW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next layer's input (B, T, W) and the skip (B, T, S); before the first step there were zeros."""
        past_BTW = F.pad(x_BTW, (0, 0, self.dilation, 0))[:, : x_BTW.shape[1]]
        return self.combine(past_BTW, x_BTW)

    def combine(self, past: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next layer's input (..., W) and the skip (..., S) of two steps' inputs (..., W)."""
        filtered, gate = self.gates(torch.cat([past, now], -1)).chunk(2, -1)
        residual, skip = self.outputs(filtered.tanh() * gate.sigmoid()).split(self.sizes, -1)
        return now + residual, skip


class WaveNet(nn.Module):
    """The stack: one layer for each dilation; the sum of all skips is what it gives."""

    def __init__(self, width: int, skip: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.width = width
        self.dilations = list(dilations)
        self.layers = nn.ModuleList(GatedLayer(width, skip, dilation) for dilation in dilations)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return the skips' sum (B, T, S); step t depends on steps t - receptive_field + 1 to t alone."""
        skips = []
        for layer in self.layers:
            x_BTW, skip_BTS = layer(x_BTW)
            skips.append(skip_BTS)
        return torch.stack(skips).sum(0)

    @property
    def receptive_field(self) -> int:
        """How many steps, the last one included, an output depends on."""
        return 1 + sum(self.dilations)


def dilation_cycles(cycles: int, layers: int) -> list[int]:
    """Return 1, 2, 4, ... of `layers` layers, `cycles` times over."""
    return [1 << layer for _ in range(cycles) for layer in range(layers)]
