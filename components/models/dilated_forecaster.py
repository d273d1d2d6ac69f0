"""WaveNet's dilated causal convolutions with gates, residual and skip connections (van den Oord et al. 2016), for a
forecast from the last step alone.

A stack of L layers with kernel 2 and dilations 1, 2, ..., 2^(L-1) sees 2^L values. Where only its last step is asked
for, layer i is looked at in every 2^i-th step only: a dilated convolution there is a product over neighbouring pairs of
the steps that are left, and each layer has half the work of the one before. The numbers are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.fast_ops import dropout
from components.models.forecaster import SeriesNetwork


class DilatedForecaster(SeriesNetwork):
    """`layers` dilated layers of `width` channels over the last 2^layers values; earlier ones are not looked at."""

    def __init__(self, width: int, layers: int, horizon: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.sight, self.dropout = 2**layers, dropout
        self.input = nn.Linear(1, width)
        self.channel = nn.Parameter(torch.randn(channels, 2 * width) * 0.1)
        self.gates = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(layers))
        self.mixes = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))  # behind the last one: none
        self.skips = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(layers))
        self.hidden = nn.Linear(2 * width, 2 * width)
        self.output = nn.Linear(2 * width, horizon)

    def forward(self, series_ST: Tensor, channels: int) -> Tensor:
        seen_ST = series_ST[:, -self.sight :]
        x_STW = self.input(F.pad(seen_ST, (self.sight - seen_ST.shape[1], 0))[..., None])
        skip_SW = self.channel.expand(series_ST.shape[0] // channels, -1, -1).flatten(0, 1)
        for gate, skip, mix in zip(self.gates, self.skips, [*self.mixes, None], strict=True):
            filtered_STW, opened_STW = gate(x_STW.unflatten(1, (-1, 2)).flatten(2)).chunk(2, -1)
            gated_STW = filtered_STW.tanh() * opened_STW.sigmoid()
            skip_SW = skip_SW + skip(gated_STW[:, -1])
            if mix is not None:
                x_STW = x_STW[:, 1::2] + mix(gated_STW)
        hidden = self.hidden(dropout(skip_SW.relu(), self.dropout, self.training)).relu()
        return self.output(hidden)
