"""A plain convolutional network: 3 x 3 convolutions one after the other (Simonyan and Zisserman 2015), strided."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk, channels_of, read_by, written_by
from components.models.pruning_groups import Member, PruningGroup


class PlainCnn(Trunk):
    """The trunk; `channels` and `strides` are of each layer, and channels[0] of the stem before them."""

    def __init__(self, inputs: int, channels: Sequence[int], strides: Sequence[int], stem_stride: int) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, channels[0], stride=stem_stride)
        self.layers = nn.Sequential(
            *(
                ConvNorm(before, after, stride=stride)
                for (before, after), stride in zip(pairwise(channels), strides, strict=True)
            )
        )
        self.outputs = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.stem(x))

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        names = [f"{path}.stem", *(f"{path}.layers.{i}" for i in range(len(self.layers)))]
        readers = [*map(read_by, names[1:]), (Member(head, 1),)]
        counts = map(channels_of, [self.stem, *self.layers])
        return [
            PruningGroup("channels", "channels", (i,), count, written_by(name) + reader)
            for i, (name, reader, count) in enumerate(zip(names, readers, counts, strict=True))
        ]
