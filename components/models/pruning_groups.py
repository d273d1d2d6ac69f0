"""How a model says which of its units may be removed together, and every weight that goes with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One tensor of a group: its units lie along `axis`, `repeats` times one after the other.

    start, stop: the part of the axis that is theirs, where others' units lie before or behind (concatenated features).
    parameter: its name in the state dict; a buffer (a norm's running mean) is cut with the rest and judges nothing.
    """

    parameter: str
    axis: int
    repeats: int = 1
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class PruningGroup:
    """Units (heads, neurons, channels) that stand or fall with the same weights.

    kind: what they are, as the prune pass's parameters name them ("heads", "ffn").
    key, layers: the model config's entries that count them: config.<key>[layer] == units for each layer. Layers whose
    outputs are added to one another are one group.
    """

    kind: str
    key: str
    layers: tuple[int, ...]
    units: int
    members: tuple[Member, ...]
