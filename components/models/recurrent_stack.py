"""Layers of plain RNN (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014), one or both ways.

Rows of a batch have lengths of their own: padding never enters a state, and the backward pass begins at a row's last
step. In torch that is a packed sequence; an exported graph has ONNX's operators RNN, LSTM and GRU with `sequence_lens`.
torch.onnx would unroll a plain RNN over a fixed number of steps, and drops the lengths of the others.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Cell = Literal["rnn", "lstm", "gru"]

_OPSET = 20
_MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# torch stacks a layer's gates in one order, ONNX in another: torch's place of each of ONNX's gates
_GATES = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


class RecurrentStack(nn.Module):
    """`layers` of `width` units each way; between them, and only there, dropout.

    memory: how many steps the slowest units of an LSTM or GRU keep what they hold before training, the others fewer:
    biases of the gates that keep are drawn as log(1 to memory) (Tallec and Ollivier 2018). A plain RNN has no gates.
    """

    def __init__(
        self, cell: Cell, inputs: int, width: int, layers: int, *, bidirectional: bool, dropout: float, memory: int = 0
    ) -> None:
        super().__init__()
        self.cell = cell
        self.directions = 2 if bidirectional else 1
        self.outputs = self.directions * width
        self.stack = _MODULES[cell](
            inputs, width, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout if layers > 1 else 0.0
        )
        if memory > 1 and cell != "rnn":
            self._remember(memory)

    @torch.no_grad()
    def _remember(self, steps: int) -> None:
        for name, bias in self.stack.named_parameters():
            if name.startswith("bias_ih"):
                gates = bias.view(-1, self.stack.hidden_size)
                gates[1].uniform_(1, max(1.0, steps - 1)).log_()  # an LSTM's forget gate, a GRU's update gate
                if self.cell == "lstm":
                    gates[0].copy_(-gates[1])  # its input gate

    def forward(self, x_BTI: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states at every step (B, T, outputs), zeros in the padding, and the last ones (B, outputs).

        length_B: int64 from 1 to T. The last state of the backward pass is the one at a row's first step.
        """
        if torch.compiler.is_exporting():
            return self._as_operators(x_BTI, length_B)
        packed = pack_padded_sequence(x_BTI, length_B.cpu(), batch_first=True, enforce_sorted=False)
        states, last = self.stack(packed)
        last_DBH = (last[0] if isinstance(last, tuple) else last)[-self.directions :]
        states_BTO, _ = pad_packed_sequence(states, batch_first=True, total_length=x_BTI.shape[1])
        return states_BTO, last_DBH.transpose(0, 1).flatten(1)

    def _as_operators(self, x_BTI: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same by a placeholder for ONNX's operator a layer; only shapes and types are known here."""
        x_TBI = x_BTI.transpose(0, 1)
        last_DBH = x_TBI
        for layer in range(self.stack.num_layers):
            states_TDBH, last_DBH = self._operator(layer, x_TBI, length_B.to(torch.int32))
            x_TBI = states_TDBH.transpose(1, 2).flatten(2)
        return x_TBI.transpose(0, 1), last_DBH.transpose(0, 1).flatten(1)

    def _operator(self, layer: int, x_TBI: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        steps, rows, width, ways = *x_TBI.shape[:2], self.stack.hidden_size, self.directions
        attributes: dict[str, Any] = {
            "hidden_size": width,
            "direction": "bidirectional" if ways == 2 else "forward",
        }
        if self.cell == "gru":
            attributes["linear_before_reset"] = 1  # torch's form of the cell
        bias = torch.cat([self._weights("bias_ih", layer), self._weights("bias_hh", layer)], 1)
        last = (ways, rows, width)
        shapes = [(steps, *last), last, last] if self.cell == "lstm" else [(steps, *last), last]
        states_TDBH, last_DBH, *_ = torch.onnx.ops.symbolic_multi_out(
            self.cell.upper(),
            (x_TBI, self._weights("weight_ih", layer), self._weights("weight_hh", layer), bias, length_B),
            attributes,
            dtypes=[x_TBI.dtype] * len(shapes),
            shapes=shapes,
            version=_OPSET,
        )
        return states_TDBH, last_DBH

    def _weights(self, kind: str, layer: int) -> Tensor:
        """Return a layer's weights or biases of each direction, (directions, gates * width, ...), in ONNX's order."""
        found = []
        for way in ("", "_reverse")[: self.directions]:
            gates = getattr(self.stack, f"{kind}_l{layer}{way}").unflatten(0, (-1, self.stack.hidden_size))
            # by slices, which the exporter computes once and for all, as it does not with a split
            found.append(torch.cat([gates[place] for place in _GATES[self.cell]]))
        return torch.stack(found)
