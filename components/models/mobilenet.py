"""MobileNet: convolutions split into one a channel (depthwise) and one a point (pointwise).

v1, depthwise separable: Howard et al. 2017. v2, inverted residuals: Sandler et al. 2018, with ReLU in place of ReLU6,
which bounded activations for fixed-point arithmetic; quantization here calibrates the range instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk, channels_of, read_by, written_by
from components.models.pruning_groups import Member, PruningGroup
from components.models.residual_streams import Block, residual_groups


class Separable(nn.Module):
    """3 x 3 in each channel, then a mixture of the channels at each point.

    Of C channels it makes D with C (9 + D) multiply-adds a point, where a full convolution takes 9 C D.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(inputs, inputs, stride=stride, groups=inputs)
        self.pointwise = ConvNorm(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class InvertedResidual(nn.Module):
    """Expand to `hidden` channels, filter each, project back without ReLU; added to the input where shapes allow."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(inputs, hidden, kernel=1)
        self.depthwise = ConvNorm(hidden, hidden, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, kernel=1, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV1(Trunk):
    """The trunk; `channels` are those of the stem and of each block, `strides` those of each block."""

    def __init__(self, inputs: int, channels: Sequence[int], strides: Sequence[int], stem_stride: int) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, channels[0], stride=stem_stride)
        self.blocks = nn.Sequential(
            *(
                Separable(before, after, stride)
                for (before, after), stride in zip(pairwise(channels), strides, strict=True)
            )
        )
        self.outputs = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        blocks = [f"{path}.blocks.{i}" for i in range(len(self.blocks))]
        writers = [f"{path}.stem", *(f"{block}.pointwise" for block in blocks)]
        readers = [*(written_by(f"{b}.depthwise") + read_by(f"{b}.pointwise") for b in blocks), (Member(head, 1),)]
        counts = [channels_of(self.stem), *(channels_of(block.pointwise) for block in self.blocks)]
        return [
            PruningGroup("channels", "channels", (i,), count, written_by(writer) + reader)
            for i, (writer, reader, count) in enumerate(zip(writers, readers, counts, strict=True))
        ]


class MobileNetV2(Trunk):
    """The trunk; `channels` are those of the stem and of each block, `hidden` and `strides` those of each block.

    A last pointwise convolution widens the features to `outputs`: a projection alone would be few and not rectified.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        hidden: Sequence[int],
        strides: Sequence[int],
        outputs: int,
        stem_stride: int,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, channels[0], stride=stem_stride)
        self.blocks = nn.Sequential(
            *(
                InvertedResidual(before, inner, after, stride)
                for (before, after), inner, stride in zip(pairwise(channels), hidden, strides, strict=True)
            )
        )
        self.last = ConvNorm(channels[-1], outputs, kernel=1)
        self.strides, self.outputs = tuple(strides), outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(x)))

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        blocks: list[Block] = []
        groups = []
        for i, block in enumerate(self.blocks):
            name = f"{path}.blocks.{i}"
            inner = written_by(f"{name}.expand") + written_by(f"{name}.depthwise") + read_by(f"{name}.project")
            groups.append(PruningGroup("hidden", "hidden", (i,), channels_of(block.depthwise), inner))
            reads, writes = read_by(f"{name}.expand"), written_by(f"{name}.project")
            blocks.append(Block(reads, writes, channels_of(block.project), self.strides[i]))
        features = (*written_by(f"{path}.last"), Member(head, 1))
        groups.append(PruningGroup("hidden", "hidden", (len(blocks),), self.outputs, features))
        stem = Block((), written_by(f"{path}.stem"), channels_of(self.stem), 1)
        return groups + residual_groups(stem, blocks, read_by(f"{path}.last"))
