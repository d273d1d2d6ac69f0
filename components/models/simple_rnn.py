"""The simple recurrent network (Elman 1990) over bits, with the activations and initial weights of the published runs.

Hidden state: z[t] = f(x[t] W_in + z[t-1] W + b); the logit of the t-th output bit: z[t] w_out + c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["sigmoid", "tanh", "relu"]
Init = Literal["normal", "xavier", "he", "identity"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}


class SimpleRNN(nn.Module):
    """Two input bits a step in, the logit of one output bit out.

    init: N(0, 1); Xavier, N(0, 1 / inputs) (Glorot and Bengio 2010); He, N(0, 2 / inputs) (He et al. 2015); or
    "identity": recurrent weights begin as the identity, so that nothing explodes (Le, Jaitly and Hinton 2015).
    signed: bits enter as -1 and 1, not as 0 and 1: a zero bit moves the state too.
    """

    def __init__(self, hidden: int, activation: Activation, init: Init, *, bias: bool, signed: bool) -> None:
        super().__init__()
        self.hidden, self.signed = hidden, signed
        self.activation = ACTIVATIONS[activation]
        self.input = nn.Linear(2, hidden, bias=bias)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, 1, bias=bias)
        for linear in (self.input, self.recurrent, self.output):
            inputs = linear.in_features
            deviation = {"normal": 1.0, "he": (2 / inputs) ** 0.5}.get(init, inputs**-0.5)
            nn.init.normal_(linear.weight, std=deviation)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        if init == "identity":
            nn.init.eye_(self.recurrent.weight)

    def driven(self, bits_BT2: Tensor) -> Tensor:
        """Return what the inputs alone add to each step's state, (B, T, hidden)."""
        bits_BT2 = bits_BT2.to(self.output.weight.dtype)
        return self.input(2 * bits_BT2 - 1 if self.signed else bits_BT2)

    def start(self, driven_BTH: Tensor) -> Tensor:
        """Return the state before the first step, (B, hidden): zeros."""
        return torch.zeros_like(driven_BTH[:, 0])

    def advance(self, driven_BH: Tensor, state_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, 1) of one step and the new state."""
        state_BH = self.activation(driven_BH + self.recurrent(state_BH))
        return self.output(state_BH), state_BH

    def forward(self, bits_BT2: Tensor) -> Tensor:
        """Return logits (B, T) of the sum's bits, lowest first."""
        driven_BTH = self.driven(bits_BT2)
        state_BH, logits = self.start(driven_BTH), []
        for driven_BH in driven_BTH.unbind(1):
            logit_B1, state_BH = self.advance(driven_BH, state_BH)
            logits.append(logit_B1)
        return torch.cat(logits, 1)
