"""A small residual network of basic blocks, as He et al. 2016 build it for 32 x 32 pictures (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk, channels_of, read_by, written_by
from components.models.pruning_groups import Member, PruningGroup
from components.models.residual_streams import Block, residual_groups


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
        self.strides, self.outputs = tuple(strides), channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        blocks: list[Block] = []
        groups = []
        for i, block in enumerate(self.blocks):
            name = f"{path}.blocks.{i}"
            inner = written_by(f"{name}.first") + read_by(f"{name}.second")
            groups.append(PruningGroup("hidden", "hidden", (i,), channels_of(block.first), inner))
            reads, writes = read_by(f"{name}.first"), written_by(f"{name}.second")
            if isinstance(block.shortcut, ConvNorm):
                reads, writes = reads + read_by(f"{name}.shortcut"), writes + written_by(f"{name}.shortcut")
            blocks.append(Block(reads, writes, channels_of(block.second), self.strides[i]))
        stem = Block((), written_by(f"{path}.stem"), channels_of(self.stem), 1)
        return groups + residual_groups(stem, blocks, (Member(head, 1),))
