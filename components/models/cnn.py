"""A plain convolutional network: 3 x 3 convolutions one after the other (Simonyan and Zisserman 2015), strided."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk


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
