"""A small residual network of basic blocks, as He et al. 2016 build it for 32 x 32 pictures (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to the input; a 1 x 1 convolution brings it to shape where it changes."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, hidden, stride=stride)
        self.second = ConvNorm(hidden, outputs, relu=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, kernel=1, stride=stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.shortcut(x) + self.second(self.first(x)))


class ResNet(Trunk):
    """The trunk; `channels` are those of the stem and of each block, `hidden` and `strides` those of each block."""

    def __init__(
        self, inputs: int, channels: Sequence[int], hidden: Sequence[int], strides: Sequence[int], stem_stride: int
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, channels[0], stride=stem_stride)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(before, inner, after, stride)
                for (before, after), inner, stride in zip(pairwise(channels), hidden, strides, strict=True)
            )
        )
        self.outputs = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))
