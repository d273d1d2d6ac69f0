"""DenseNet-BC (Huang et al. 2017): each layer sees the features of all before it in its stage.

The order is convolution, norm, ReLU as in PeleeNet (Wang et al. 2018), not norm, ReLU, convolution as in the paper:
there each layer normalizes all it sees anew, which no weights can absorb; here every norm folds into its convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.image_layers import ConvNorm, Trunk


class DenseLayer(nn.Module):
    """A 1 x 1 convolution to `hidden` channels, a 3 x 3 one to `growth` more features behind those that came in."""

    def __init__(self, inputs: int, hidden: int, growth: int) -> None:
        super().__init__()
        self.bottleneck = ConvNorm(inputs, hidden, kernel=1)
        self.grow = ConvNorm(hidden, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.grow(self.bottleneck(x))], 1)


class DenseNet(Trunk):
    """The trunk; `growth` and `hidden` are those of each layer, `depths` the layers of each stage.

    Between stages a 1 x 1 convolution keeps `compression` of the features and the picture is halved.
    """

    def __init__(
        self,
        inputs: int,
        stem: int,
        depths: Sequence[int],
        growth: Sequence[int],
        hidden: Sequence[int],
        compression: float,
        stem_stride: int,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, stem, stride=stem_stride)
        self.layers, self.transitions = nn.ModuleList(), nn.ModuleList()
        self.depths, features = tuple(depths), stem
        sizes = iter(zip(hidden, growth, strict=True))
        for stage, depth in enumerate(depths):
            if stage:
                kept = max(1, int(features * compression))
                self.transitions.append(ConvNorm(features, kept, kernel=1))
                features = kept
            for inner, more in islice(sizes, depth):
                self.layers.append(DenseLayer(features, inner, more))
                features += more
        self.outputs = features

    def forward(self, x: Tensor) -> Tensor:
        x, layers = self.stem(x), iter(self.layers)
        for stage, depth in enumerate(self.depths):
            if stage:
                x = F.avg_pool2d(self.transitions[stage - 1](x), 2)
            for layer in islice(layers, depth):
                x = layer(x)
        return x
