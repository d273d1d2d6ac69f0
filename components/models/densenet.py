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

from components.models.image_layers import ConvNorm, Trunk, channels_of, read_by, written_by
from components.models.pruning_groups import Member, PruningGroup


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

    Between stages a 1 x 1 convolution mixes the features into as many as `transitions` says, and the picture is halved.
    """

    def __init__(
        self,
        inputs: int,
        stem: int,
        depths: Sequence[int],
        growth: Sequence[int],
        hidden: Sequence[int],
        transitions: Sequence[int],
        stem_stride: int,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(inputs, stem, stride=stem_stride)
        self.layers, self.transitions = nn.ModuleList(), nn.ModuleList()
        self.depths, features = tuple(depths), stem
        sizes = iter(zip(hidden, growth, strict=True))
        for stage, depth in enumerate(depths):
            if stage:
                self.transitions.append(ConvNorm(features, transitions[stage - 1], kernel=1))
                features = transitions[stage - 1]
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

    def pruning_groups(self, path: str, head: str) -> list[PruningGroup]:
        groups, first = [], 0
        for stage, depth in enumerate(self.depths):
            layers = range(first, first + depth)
            mixed = f"{path}.transitions.{stage}" if stage + 1 < len(self.depths) else None
            groups += self._stage_groups(path, stage, layers, mixed, head)
            first += depth
        return groups

    def _stage_groups(self, path: str, stage: int, layers: range, mixed: str | None, head: str) -> list[PruningGroup]:
        """Return the groups of one stage; its features lie one after the other in all that reads them later."""
        groups, start = [], channels_of(self.stem)
        if stage:
            start = channels_of(self.transitions[stage - 1])
            members = written_by(f"{path}.transitions.{stage - 1}") + _readers(path, layers, mixed, head, 0, start)
            groups.append(PruningGroup("transitions", "transitions", (stage - 1,), start, members))
        for i in layers:
            name, layer = f"{path}.layers.{i}", self.layers[i]
            inner = written_by(f"{name}.bottleneck") + read_by(f"{name}.grow")
            groups.append(PruningGroup("hidden", "hidden", (i,), channels_of(layer.bottleneck), inner))
            growth = channels_of(layer.grow)
            later = _readers(path, range(i + 1, layers.stop), mixed, head, start, start + growth)
            groups.append(PruningGroup("channels", "channels", (i,), growth, written_by(f"{name}.grow") + later))
            start += growth
        return groups


def _readers(path: str, layers: range, mixed: str | None, head: str, start: int, stop: int) -> tuple[Member, ...]:
    """Return what reads the features from start to stop: later layers of the stage, and what comes behind it."""
    names = [f"{path}.layers.{i}.bottleneck" for i in layers] + ([mixed] if mixed else [])
    members = tuple(member for name in names for member in read_by(name, start, stop))
    return members if mixed else (*members, Member(head, 1, start=start, stop=stop))
