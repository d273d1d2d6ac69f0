"""Unstructured magnitude pruning: the smallest weights become zero and stay zero while the rest is fine-tuned.

Han et al. 2015. The shapes stay, so a graph keeps its size and its speed on common hardware. What zeros are worth is
fewer bytes once a file is compressed for storage or transport: the pass prints how many of the weights, and a variant's
report and model card those of its bundle (`Bundle.deflated_bytes`). To make a network smaller and faster, use `prune`.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.compression.context import Context
from components.compression.distill import Logit, distilling_step, kept_by
from components.core.config import Config
from components.core.task import StepOutput, TrainedModel


class Sparsify(Config):
    """The fraction of each matrix's weights that becomes zero, and the fine-tuning that follows."""

    fraction: float = Field(gt=0, lt=1)
    logit: Logit | None = None
    train: dict[str, Any] = {}

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a sparse copy of `model`, fine-tuned to the recipe's teacher."""
        sparse = TrainedModel(model.config, copy.deepcopy(model.module))
        masks = {name: _mask(p, self.fraction) for name, p in sparse.module.named_parameters() if p.dim() > 1}
        kept = kept_by(context.teacher, context, context.train, self.logit)
        inner = distilling_step(context.task, context.teacher, self.logit, kept)

        def step(module: nn.Module, batch: Any) -> StepOutput:
            _apply(masks, module)  # the optimizer has moved the zeros since the last step
            return inner(module, batch)

        context.fit(sparse.module, step, context.train, self.train)
        _apply(masks, sparse.module)
        before, after = deflated_bytes(model.module), deflated_bytes(sparse.module)
        stored = 4 * sparse.parameters()
        print(f"sparsified: {stored:,} bytes of weights as before; deflated {before:,} -> {after:,}", flush=True)
        return sparse


def deflated_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters under DEFLATE (gzip's and zip's method)."""
    return sum(len(zlib.compress(p.detach().contiguous().numpy().tobytes())) for p in module.parameters())


def _mask(weight: Tensor, fraction: float) -> Tensor:
    """Return a tensor of the weight's shape: 0 for the fraction of smallest magnitude, 1 elsewhere."""
    smallest = weight.detach().abs().flatten().argsort(stable=True)[: round(fraction * weight.numel())]
    return torch.ones(weight.numel()).index_fill(0, smallest, 0.0).view_as(weight)


@torch.no_grad()
def _apply(masks: Mapping[str, Tensor], module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name in masks:
            parameter.mul_(masks[name].to(parameter.device))
