"""How a model says which of its units may be removed together, and every weight that goes with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One parameter of a group: its units lie along `axis`, `repeats` times one after the other."""

    parameter: str
    axis: int
    repeats: int = 1


@dataclass(frozen=True)
class PruningGroup:
    """Units (heads, neurons, channels) of one layer that stand or fall with the same weights.

    kind: what they are, as the prune pass's parameters name them ("heads", "ffn").
    key, layer: the model config's entry that counts them: config.<key>[layer] == units.
    """

    kind: str
    key: str
    layer: int
    units: int
    members: tuple[Member, ...]
