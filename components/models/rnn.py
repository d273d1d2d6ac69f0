"""Seq2seq with attention: bidirectional recurrent encoder, recurrent decoder (Luong et al. 2015, "general").

Attention is read after the decoder's recurrence, so that training runs whole sequences at once. GRU (Cho et al. 2014)
or LSTM (Hochreiter and Schmidhuber 1997) cells; one set of weights serves training and step-by-step decoding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.fast_ops import MASKED, dropout
from components.models.pruning_groups import PruningGroup

Cell = Literal["gru", "lstm"]


class RecurrentSeq2Seq(nn.Module):
    """Encoder-decoder over token ids; `width`: of embedding and encoder (each direction), half of the decoder's."""

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        width: int,
        layers: int,
        cell: Cell,
        dropout: float,
        pad: int,
    ) -> None:
        super().__init__()
        self.pad, self.dropout, self.cell, self.layers, self.hidden = pad, dropout, cell, layers, 2 * width
        recurrent = nn.GRU if cell == "gru" else nn.LSTM
        self.source_embedding = nn.Embedding(source_vocabulary, width, padding_idx=pad)
        self.target_embedding = nn.Embedding(target_vocabulary, width, padding_idx=pad)
        inputs = [width] + [2 * width] * (layers - 1)
        self.forward_encoder = nn.ModuleList(recurrent(size, width, batch_first=True) for size in inputs)
        self.backward_encoder = nn.ModuleList(recurrent(size, width, batch_first=True) for size in inputs)
        self.initial_state = nn.Linear(2 * width, layers * self.hidden)
        self.decoder = recurrent(width, self.hidden, layers, batch_first=True)
        self.key = nn.Linear(2 * width, self.hidden, bias=False)
        self.combine = nn.Linear(self.hidden + 2 * width, width)
        self.output_bias = nn.Parameter(torch.zeros(target_vocabulary))
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=width**-0.5)
            with torch.no_grad():
                embedding.weight[pad].zero_()

    def encode(self, source_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return memory (B, S, 2 width), its additive mask (B, S), the decoder's first state (layers, B, hidden)."""
        real_BS = source_BS != self.pad
        lengths_B = real_BS.sum(1)
        mirror_BS = (lengths_B[:, None] - 1 - torch.arange(source_BS.shape[1], device=source_BS.device)).clamp(min=0)
        x = self._drop(self.source_embedding(source_BS))
        for ahead, behind in zip(self.forward_encoder, self.backward_encoder, strict=True):
            x = self._drop(torch.cat([ahead(x)[0], _take(behind(_take(x, mirror_BS))[0], mirror_BS)], -1))
        width = x.shape[-1] // 2
        last_B1 = (lengths_B - 1).clamp(min=0)[:, None]
        ends_BW = torch.cat([_take(x[..., :width], last_B1)[:, 0], x[:, 0, width:]], -1)
        first = self.initial_state(ends_BW).tanh().unflatten(-1, (self.layers, self.hidden)).transpose(0, 1)
        return x, (~real_BS).to(x.dtype) * MASKED, first.contiguous()

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Return logits (B, T, target vocabulary) of each next token, given the tokens before it."""
        memory, mask, first = self.encode(source_BS)
        hidden_BTH = self._decode(target_BT, first)
        attended = self._attend(hidden_BTH, self.key(memory), memory, mask[:, None, :])
        flat = self._drop(attended).flatten(0, 1)
        return F.linear(flat, self.target_embedding.weight, self.output_bias).unflatten(0, target_BT.shape)

    def attention_maps(self, source_BS: Tensor, target_BT: Tensor) -> dict[str, list[Tensor]]:
        """Return what the decoder attends to: "source" (B, 1, T, S)."""
        memory, mask, first = self.encode(source_BS)
        weights_BTS = self._weights(self._decode(target_BT, first), self.key(memory), mask[:, None, :])
        return {"source": [weights_BTS[:, None]]}

    def _decode(self, target_BT: Tensor, first: Tensor) -> Tensor:
        """Return the decoder's hidden states (B, T, hidden)."""
        state = first if self.cell == "gru" else (first, torch.zeros_like(first))
        hidden_BTH: Tensor = self.decoder(self._drop(self.target_embedding(target_BT)), state)[0]
        return hidden_BTH

    def _attend(self, hidden_BTH: Tensor, key_BSH: Tensor, memory_BSM: Tensor, mask: Tensor) -> Tensor:
        """Return (B, T, width): each hidden state with the part of the source it looks at."""
        weights_BTS = self._weights(hidden_BTH, key_BSH, mask)
        return self.combine(torch.cat([hidden_BTH, weights_BTS @ memory_BSM], -1)).tanh()

    def _weights(self, hidden_BTH: Tensor, key_BSH: Tensor, mask: Tensor) -> Tensor:
        return (hidden_BTH @ key_BSH.transpose(1, 2) * self.hidden**-0.5 + mask).softmax(-1)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)

    # ---- step by step (components/models/decoding.py) ----

    def constant_names(self) -> list[str]:
        """Names of what every step reads: the source mask, the attention's keys and its memory."""
        return ["source_mask", "source_key", "source_memory"]

    def state_names(self) -> list[str]:
        """Names of what is carried from step to step: a hidden state a layer, and a cell state in an LSTM."""
        kinds = ("hidden",) if self.cell == "gru" else ("hidden", "cell")
        return [f"{kind}_{i}" for i in range(self.layers) for kind in kinds]

    def growing(self) -> dict[str, int]:
        """The axis along which constants follow the source's length."""
        return dict.fromkeys(self.constant_names(), 1)

    def begin(self, source_BS: Tensor, beams: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return constants of B rows and first states of B * beams rows."""
        memory, mask, first = self.encode(source_BS)
        state = []
        for layer in first.repeat_interleave(beams, 1).unbind(0):
            state += [layer] if self.cell == "gru" else [layer, torch.zeros_like(layer)]
        return [mask, self.key(memory), memory], state

    def advance(
        self, token_R1: Tensor, position: Tensor, constants: list[Tensor], state: list[Tensor], beams: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits (R, target vocabulary) of the token after `token`, and the new state; R = B * beams."""
        mask, key, memory = constants
        x, new_state = self.target_embedding(token_R1)[:, 0], []
        for i in range(self.layers):
            weights = [
                getattr(self.decoder, f"{name}_l{i}") for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            ]
            if self.cell == "gru":
                x = _gru_step(x, state[i], *weights)
                new_state.append(x)
            else:
                x, cell = _lstm_step(x, state[2 * i], state[2 * i + 1], *weights)
                new_state += [x, cell]
        queries = x.view(memory.shape[0], beams, self.hidden)  # the hypotheses of one source are an axis of queries
        attended = self._attend(queries, key, memory, mask[:, None, :]).flatten(0, 1)
        return F.linear(attended, self.target_embedding.weight, self.output_bias), new_state

    def pruning_groups(self) -> list[PruningGroup]:
        """Return nothing: removing hidden units of a recurrence is not offered."""
        return []


def _take(x_BSW: Tensor, index_BT: Tensor) -> Tensor:
    """Return (B, T, W): rows of each sequence in another order."""
    return x_BSW.gather(1, index_BT[..., None].expand(-1, -1, x_BSW.shape[-1]))


def _gru_step(x: Tensor, hidden: Tensor, w_ih: Tensor, b_ih: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
    """Return the next hidden state, by the equations of torch.nn.GRU."""
    from_input = F.linear(x, w_ih, b_ih).chunk(3, -1)
    from_hidden = F.linear(hidden, w_hh, b_hh).chunk(3, -1)
    reset = (from_input[0] + from_hidden[0]).sigmoid()
    update = (from_input[1] + from_hidden[1]).sigmoid()
    candidate = (from_input[2] + reset * from_hidden[2]).tanh()
    return (1 - update) * candidate + update * hidden


def _lstm_step(
    x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, b_ih: Tensor, w_hh: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the next hidden and cell state, by the equations of torch.nn.LSTM."""
    gates = (F.linear(x, w_ih, b_ih) + F.linear(hidden, w_hh, b_hh)).chunk(4, -1)
    cell = gates[1].sigmoid() * cell + gates[0].sigmoid() * gates[2].tanh()
    return gates[3].sigmoid() * cell.tanh(), cell
