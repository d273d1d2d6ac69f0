"""A recurrent network over segments of a series, all segments to come at once (Lin et al. 2023, SegRNN).

A series of T values is cut into segments; each is embedded, and the recurrence runs over these few embeddings, not over
T values. Decoding starts from the last state once for every segment to come: its input says which segment it is and
which channel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from components.models.fast_ops import dropout
from components.models.forecaster import SeriesNetwork

Cell = Literal["rnn", "lstm", "gru"]


class TanhRNN(nn.Module):
    """nn.RNN of one layer, batch first, step by step.

    torch exports its own as a pattern whose half-precision form crashes ONNX Runtime 1.32's NchwcTransformer at load.
    """

    def __init__(self, inputs: int, width: int, batch_first: Literal[True]) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, width)
        self.recurrent = nn.Linear(width, width, bias=False)

    def forward(self, x_BTW: Tensor, state_1BW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the state after each step (B, T, width) and the last one (1, B, width)."""
        driven_BTW = self.input(x_BTW)
        state_BW = torch.zeros_like(driven_BTW[:, 0]) if state_1BW is None else state_1BW[0]
        states = []
        for driven_BW in driven_BTW.unbind(1):
            state_BW = (driven_BW + self.recurrent(state_BW)).tanh()
            states.append(state_BW)
        return torch.stack(states, 1), state_BW[None]


CELLS: dict[str, type[nn.Module]] = {"rnn": TanhRNN, "lstm": nn.LSTM, "gru": nn.GRU}


class SegmentRNN(SeriesNetwork):
    """Look-back and horizon are whole numbers of segments; `width`: of embedding and state, an even number."""

    def __init__(self, cell: Cell, width: int, segment: int, horizon: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.segment, self.dropout = segment, dropout
        self.embedding = nn.Linear(segment, width)
        self.recurrent = CELLS[cell](width, width, batch_first=True)
        self.place = nn.Parameter(torch.randn(horizon // segment, width // 2))
        self.channel = nn.Parameter(torch.randn(channels, width // 2))
        self.output = nn.Linear(width, segment)

    def forward(self, series_ST: Tensor, channels: int) -> Tensor:
        segments_SNG = series_ST.unflatten(1, (-1, self.segment))
        _, state = self.recurrent(self.embedding(segments_SNG).relu())
        places, half = self.place.shape
        query_CPW = torch.cat(
            [self.place.expand(channels, places, half), self.channel[:, None].expand(channels, places, half)], -1
        )
        query = query_CPW.expand(series_ST.shape[0] // channels, -1, -1, -1).reshape(-1, 1, 2 * half)
        repeated = [part.repeat_interleave(places, 1) for part in (state if isinstance(state, tuple) else (state,))]
        decoded, _ = self.recurrent(query, tuple(repeated) if len(repeated) > 1 else repeated[0])
        return self.output(dropout(decoded[:, 0], self.dropout, self.training)).view(series_ST.shape[0], -1)
