"""WaveNet (van den Oord et al. 2016): gated, dilated, causal convolutions with residual and skip connections.

A convolution of two steps is a product over "now and `dilation` steps ago": the same weights serve whole sequences and
one step at a time, which keeps each layer's last inputs instead of computing them again (Paine et al. 2016).
Shapes: B rows, T steps, W width, S skip channels, L layers, C channels of a condition, D the sum of all dilations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

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

    def forward(self, x_BTW: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the next layer's input (B, T, W) and the skip (B, T, S); before the first step there were zeros."""
        past_BTW = F.pad(x_BTW, (0, 0, self.dilation, 0))[:, : x_BTW.shape[1]]
        return self.combine(past_BTW, x_BTW, condition)

    def combine(self, past: Tensor, now: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the next layer's input (..., W) and the skip (..., S) of two steps' inputs (..., W).

        condition: (..., 2 W) to add to filter and gate.
        """
        gates = self.gates(torch.cat([past, now], -1))
        filtered, gate = (gates if condition is None else gates + condition).chunk(2, -1)
        residual, skip = self.outputs(filtered.tanh() * gate.sigmoid()).split(self.sizes, -1)
        return now + residual, skip


class WaveNet(nn.Module):
    """The stack: one layer for each dilation; the sum of all skips is what it gives.

    conditions: channels of a vector that stays the same over time and drives every layer's gates (2.5); 0: none.
    """

    def __init__(self, width: int, skip: int, dilations: Sequence[int], conditions: int = 0) -> None:
        super().__init__()
        self.width, self.dilations = width, list(dilations)
        self.layers = nn.ModuleList(GatedLayer(width, skip, dilation) for dilation in dilations)
        self.condition = nn.Linear(conditions, 2 * width * len(self.layers), bias=False) if conditions else None

    def forward(self, x_BTW: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        """Return the skips' sum (B, T, S); step t depends on steps t - receptive_field + 1 to t alone."""
        drives: Sequence[Tensor | None] = [None] * len(self.layers)
        if condition_BC is not None:
            drives = self.drives(condition_BC)[:, :, None].unbind(1)
        skips = []
        for layer, drive in zip(self.layers, drives, strict=True):
            x_BTW, skip_BTS = layer(x_BTW, drive)
            skips.append(skip_BTS)
        return torch.stack(skips).sum(0)

    @property
    def receptive_field(self) -> int:
        """How many steps, the last one included, an output depends on."""
        return 1 + sum(self.dilations)

    # ---- step by step ----

    def drives(self, condition_BC: Tensor) -> Tensor:
        """Return what a condition adds to each layer's filter and gate, (B, L, 2 W)."""
        assert self.condition is not None
        return self.condition(condition_BC).unflatten(1, (len(self.layers), 2 * self.width))

    def empty_past(self, rows: int) -> Tensor:
        """Return the inputs of all layers before the first step, (B, D, W): zeros, each layer's part in its place."""
        weight = next(self.parameters())
        return torch.zeros(rows, sum(self.dilations), self.width, dtype=weight.dtype, device=weight.device)

    def advance(self, x_BW: Tensor, drives_BL2W: Tensor, past_BDW: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return the skips' sum (B, S) of one step and the new past; the cost is the same at every position.

        A layer's last inputs lie in a ring: step t reads what was written `dilation` steps ago, and writes over it.
        """
        first = [0, *accumulate(self.dilations)][:-1]
        place_L = torch.tensor(first) + position % torch.tensor(self.dilations)
        before_BLW = past_BDW.index_select(1, place_L)
        inputs, skips = [], []
        for number, layer in enumerate(self.layers):
            inputs.append(x_BW)
            x_BW, skip_BS = layer.combine(before_BLW[:, number], x_BW, drives_BL2W[:, number])
            skips.append(skip_BS)
        now_BLW = torch.stack(inputs, 1)
        new_BDW = past_BDW.scatter(1, place_L[None, :, None].expand_as(now_BLW), now_BLW)
        return torch.stack(skips).sum(0), new_BDW


def dilation_cycles(cycles: int, layers: int) -> list[int]:
    """Return 1, 2, 4, ... of `layers` layers, `cycles` times over."""
    return [1 << layer for _ in range(cycles) for layer in range(layers)]
