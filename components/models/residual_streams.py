"""Channels along residual connections: layers whose outputs are added to one another keep the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from components.models.pruning_groups import Member, PruningGroup


@dataclass(frozen=True)
class Block:
    """What reads a block's input, what writes its `outputs` channels, and its stride."""

    reads: tuple[Member, ...]
    writes: tuple[Member, ...]
    outputs: int
    stride: int


@dataclass
class _Stream:
    """Layers joined by additions; `fixed` where other channel counts would make another network."""

    units: int
    layers: list[int] = field(default_factory=list)
    members: tuple[Member, ...] = ()
    fixed: bool = False


def residual_groups(stem: Block, blocks: Sequence[Block], last: tuple[Member, ...]) -> list[PruningGroup]:
    """Return a group of kind "channels" for each stream; layer 0 of config.channels is the stem.

    A block of stride 1 with as many inputs as outputs adds its input to its output. Where the two differ they stay as
    they are: pruned to the same number they would be added.

    last: what reads the last block's outputs.
    """
    stream = _Stream(stem.outputs, [0], stem.writes)
    streams = [stream]
    for layer, block in enumerate(blocks, 1):
        stream.members += block.reads
        if block.stride > 1 or block.outputs != stream.units:
            before, stream = stream, _Stream(block.outputs)
            before.fixed = before.fixed or block.stride == 1
            stream.fixed = block.stride == 1
            streams.append(stream)
        stream.layers.append(layer)
        stream.members += block.writes
    stream.members += last
    return [PruningGroup("channels", "channels", tuple(s.layers), s.units, s.members) for s in streams if not s.fixed]
