"""Feature distillation (Romero et al. 2015, FitNets): a layer of the student learns what a layer of the teacher says.

Where the two have other channels, a projection that is learned with the student maps the one onto the other; it is
dropped afterwards. Shapes: convolutions' features are (B, C, H, W), all others (..., C).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.compression.context import Context, Frozen, Step
from components.core.config import Config
from components.core.errors import ConfigError, did_you_mean
from components.core.task import StepOutput, Task


class Feature(Config):
    """The loss gains `weight` times the squared distance of the features, in units of the teacher's variance."""

    layer: str = Field(description="name of a submodule that both models have, such as trunk or encoder_norm")
    weight: float = Field(1.0, gt=0)


class Projected(nn.Module):
    """A student with the projection that is trained beside it."""

    def __init__(self, student: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.student, self.projection = student, projection


def with_projection(student: nn.Module, teacher: nn.Module, feature: Feature, context: Context) -> Projected:
    """Return the student with a projection from its features to the teacher's, sized by a batch of training data.

    Raises:
        ConfigError: a layer that one of them lacks, or features of other shapes than channels alone can explain.
    """
    batch = next(context.batches(context.train))
    shapes = []
    for model in (student, teacher):
        with torch.no_grad(), outputs(model.eval(), feature.layer) as seen:
            context.task.step(model, batch)
        if not seen or not isinstance(seen[0], Tensor):
            why = "several tensors, not one" if seen else "nothing: it is not called"
            raise ConfigError([f"feature.layer: {feature.layer} gives {why}; name another submodule"])
        shapes.append(seen[0].shape)
    (here, there), channels = shapes, _channel_axis(shapes[0])
    if [*here[:channels], *here[channels:][1:]] != [*there[:channels], *there[channels:][1:]]:
        raise ConfigError([f"feature.layer: {feature.layer} gives {tuple(here)}, the teacher's {tuple(there)}"])
    torch.manual_seed(0)
    inputs, wanted = here[channels], there[channels]
    linear = nn.Conv2d(inputs, wanted, 1) if len(here) == 4 else nn.Linear(inputs, wanted)
    return Projected(student, linear)


def feature_step(inner: Step, task: Task, teacher: Frozen, feature: Feature) -> Step:
    """Return `inner` for a Projected whose loss also draws the student's features towards the teacher's."""

    def step(projected: Any, batch: Any) -> StepOutput:
        if not projected.training:
            return inner(projected.student, batch)
        frozen = teacher.beside(projected)
        with outputs(projected.student, feature.layer) as said, outputs(frozen, feature.layer) as wanted:
            output = inner(projected.student, batch)
            if not wanted:  # unless `inner` has asked the teacher already
                with torch.no_grad():
                    task.step(frozen, batch)
        distance = F.mse_loss(projected.projection(said[0]), wanted[0]) / wanted[0].var()
        return StepOutput(output.loss + feature.weight * distance, output.logits, output.targets, output.metrics)

    return step


@contextmanager
def outputs(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Collect what a layer gives while the context is open."""
    layers = dict(model.named_modules())
    if layer not in layers:
        raise ConfigError([f"feature.layer: no such submodule {layer!r}{did_you_mean(layer, layers)}"])
    seen: list[Tensor] = []
    handle = layers[layer].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def _channel_axis(shape: torch.Size) -> int:
    return 1 if len(shape) == 4 else len(shape) - 1
