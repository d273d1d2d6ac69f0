"""What the image networks share: the classifier around a trunk, its convolutions, and how stages are laid out.

Every batch norm follows its convolution at once, so that an exported graph holds none: it is folded into the weights.
Shapes: B pictures, H x W points, C channels. Pictures come as bytes, channels last, as image files decode to; with
`permute` that is torch's channels_last format without a copy, in which convolutions are fastest on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.pruning_groups import Member, PruningGroup


class Trunk(nn.Module):
    """Turns pictures into features: (B, C, H, W) -> (B, outputs, h, w)."""

    outputs: int

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        """Return the channels that may be removed.

        path: the trunk's own name in the model. head: name of the matrix whose inputs are the trunk's outputs.
        """
        raise NotImplementedError


class ImageClassifier(nn.Module):
    """Normalizes a picture, runs a trunk, averages over the picture and weighs the features.

    mean, std: of the training pictures' bytes, one a channel.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(trunk.outputs, classes)
        # constants of the data, which whoever builds the model has: no weights
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, image_BHWC: Tensor) -> Tensor:
        """Return logits (B, classes) of pictures uint8 (B, H, W, C)."""
        return self.head(self.features(image_BHWC))

    def features(self, image_BHWC: Tensor) -> Tensor:
        """Return what the last layer weighs, (B, trunk.outputs)."""
        x_BCHW = image_BHWC.permute(0, 3, 1, 2).to(self.mean.dtype)
        return self.trunk((x_BCHW - self.mean) * self.scale).mean((2, 3))

    def pruning_groups(self) -> list[PruningGroup]:
        """Return the channels that may be removed, and every weight that goes with them."""
        return self.trunk.pruning_groups("trunk", "head.weight")


class SkippingConv(nn.Conv2d):
    """A 1 x 1 convolution with a stride that leaves out points before it multiplies, except in an exported graph.

    oneDNN's gradient of a strided one writes past its memory on a CPU where the input has fewer channels than a vector
    (https://github.com/uxlfoundation/oneDNN/issues/6035): wrong weights, or an end without a word.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride)."""
        if torch.compiler.is_exporting():
            return super().forward(input)
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


class ConvNorm(nn.Module):
    """Convolution, batch norm (Ioffe and Szegedy 2015) and ReLU; the size stays, divided by the stride."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        kind = SkippingConv if kernel == 1 and stride > 1 else nn.Conv2d
        self.conv = kind(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.relu_(x) if self.relu else x


def channels_of(layer: Any) -> int:
    """Return how many channels a ConvNorm gives."""
    return int(layer.conv.out_channels)


def written_by(path: str) -> tuple[Member, ...]:
    """Return what makes the output channels of the ConvNorm at a path; of a depthwise one, its input channels too."""
    norm = (f"{path}.norm.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
    return (Member(f"{path}.conv.weight", 0), *(Member(name, 0) for name in norm))


def read_by(path: str, start: int = 0, stop: int | None = None) -> tuple[Member, ...]:
    """Return what reads the input channels, or those from start to stop, of the ConvNorm at a path."""
    return (Member(f"{path}.conv.weight", 1, start=start, stop=stop),)


def stage_widths(width: int, depths: Sequence[int]) -> list[int]:
    """Return each layer's channels: `width` in the first stage, twice as many in each that follows."""
    return [width << stage for stage, depth in enumerate(depths) for _ in range(depth)]


def stage_strides(depths: Sequence[int]) -> list[int]:
    """Return each layer's stride: every stage but the first begins by halving the picture."""
    return [2 if stage and not layer else 1 for stage, depth in enumerate(depths) for layer in range(depth)]
