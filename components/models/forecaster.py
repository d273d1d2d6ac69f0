"""What the forecasters share: values scaled, the last one taken as zero, all channels through one network.

Subtracting the last value lets a model follow a level it never saw in training (Zeng et al. 2023, NLinear). Shapes: B
windows, T past rows, H rows to come, C channels; S = B * C single series.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SeriesNetwork(nn.Module):
    """Forecasts single series: (S, T) scaled values and the number of channels -> (S, H)."""

    def forward(self, series_ST: Tensor, channels: int) -> Tensor:
        raise NotImplementedError


class Forecaster(nn.Module):
    """Wraps a network so that it takes and gives rows in the data's unit.

    mean, deviation: of the training rows, one a channel: constants of the data, which whoever builds the model has.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: SeriesNetwork, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32), persistent=False)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Keep the data's constants whole where the weights are halved: they scale what goes in and out."""
        super()._apply(fn, recurse)
        self.mean, self.deviation = self.mean.float(), self.deviation.float()
        return self

    def scaled(self, rows_BTC: Tensor) -> Tensor:
        """Return rows in training deviations from the training mean."""
        return (rows_BTC - self.mean) / self.deviation

    def forward(self, past_BTC: Tensor) -> Tensor:
        """Return the scaled forecast float32 (B, H, C) of past rows float32 (B, T, C) in the data's unit."""
        scaled_BCT = self.scaled(past_BTC).transpose(1, 2)
        last_BC1 = scaled_BCT[:, :, -1:]
        weights = next(self.network.parameters())  # half-precision ones in an fp16 variant
        series_ST = (scaled_BCT - last_BC1).flatten(0, 1).to(weights.dtype)
        change_SH = self.network(series_ST, len(self.mean))
        return (change_SH.float().unflatten(0, (-1, len(self.mean))) + last_BC1).transpose(1, 2)
