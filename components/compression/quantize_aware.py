"""Quantization-aware training: the model trains with the rounding of its int8 or int4 graph (Jacob et al. 2018).

8 bits: the ranges of activations are found on training batches, as static int8 finds them; then the weights are trained
with everything rounded, the ranges fixed. Both travel with the model, which rounds wherever it is used: its scores are
those of the int8 graph, and `export` with `quantize: {method: static}` takes its ranges in place of calibrated ones.

4 bits: only weights are rounded, block by block, as `quantize: {method: weight_only, bits: 4}` stores them, within
loops too. What is kept are the rounded weights: the model is its int4 graph at every precision.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from components.compression.context import Context, Step
from components.compression.distill import Logit, distilling_step, kept_by, with_answers
from components.core.config import Config
from components.core.errors import ModelpressError
from components.core.params import Calibration, unread_percentile
from components.core.task import LoopSpec, StepOutput, TaskDataset, TrainedModel
from components.export.block_rounding import rounded_in_blocks
from components.export.fake_quant import plain, simulate
from components.export.int8 import SMALLEST
from components.export.ranges import StreamingHistogram, find_range


class QuantizeAware(Config):
    """What is rounded, and the training that follows. batches, method, percentile: how 8 bits find their ranges."""

    bits: Literal[8, 4] = 8
    block: Literal[16, 32, 64, 128, 256] = Field(32, description="4 bits: the variant's own `quantize.block`")
    batches: int = Field(16, gt=0, description="batches of train the ranges are found on")
    method: Literal["min_max", "percentile", "entropy"] = "percentile"
    percentile: float = Field(99.99, gt=50, le=100)
    sequence: dict[str, Any] | None = Field(None, description="the task's Options with which the teacher answers")
    logit: Logit | None = None
    train: dict[str, Any] = {}

    def idle(self) -> Mapping[str, str]:
        """Return the options that belong to the other number of bits, or to another method."""
        if self.bits == 8:
            return {"block": "is of bits: 4, but bits is 8", **unread_percentile(self.method)}
        return dict.fromkeys(("batches", "method", "percentile"), "is of bits: 8, but bits is 4")

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a copy of `model` that rounds, fine-tuned to the recipe's teacher.

        Raises:
            ModelpressError: 8 bits and the task answers by a graph with a loop, or the model has no layer that could be
                rounded.
        """
        task = context.task
        rounding = TrainedModel(model.config, copy.deepcopy(plain(model.module)))
        if self.bits == 8:
            if any(isinstance(spec, LoopSpec) for spec in task.graphs(rounding.module.eval(), task.Options())):
                raise ModelpressError(f"quantize_aware: {task.name} answers by a loop, which has no static int8")
            fit = self._fit_ranges
        else:
            if not weights_in_blocks(rounding.module):
                kinds = "linear, embedding, convolution or recurrent layer"
                raise ModelpressError(f"quantize_aware: no {kinds} of {task.name} has {SMALLEST} weights or more")
            fit = self._fit_blocks
        data = with_answers(context.teacher, context, self.sequence)
        kept = kept_by(context.teacher, context, data, self.logit)
        fit(rounding, distilling_step(task, context.teacher, self.logit, kept), data, context)
        return rounding

    def _fit_blocks(self, model: TrainedModel, step: Step, data: TaskDataset, context: Context) -> None:
        """Train with the large weights rounded in each step, and leave them so."""
        blocks = weights_in_blocks(model.module)

        def rounded(fitted: nn.Module) -> dict[str, Tensor]:
            weights = {name: fitted.get_parameter(name) for name in blocks}
            return {n: rounded_in_blocks(w, self.bits, self.block, blocks[n]) for n, w in weights.items()}

        def rounding_step(fitted: nn.Module, batch: Any) -> StepOutput:
            # gradients pass as if nothing were rounded (Bengio et al. 2013)
            weights = ((name, fitted.get_parameter(name), near) for name, near in rounded(fitted).items())
            passing = {f"fitted.{name}": weight + (near - weight).detach() for name, weight, near in weights}
            output: StepOutput = functional_call(_Stepping(fitted, step), passing, (batch,))
            return output

        context.fit(model.module, rounding_step, data, self.train)
        with torch.no_grad():
            for name, near in rounded(model.module).items():
                model.module.get_parameter(name).copy_(near)

    def _fit_ranges(self, model: TrainedModel, step: Step, data: TaskDataset, context: Context) -> None:
        """Train with ranges found before, in which every activation is rounded, and every layer's weights."""
        self._find_ranges(model, context)
        with warnings.catch_warnings():
            # norms are, on purpose
            warnings.filterwarnings("ignore", message=r".*in eval mode at the start of training.*")
            context.fit(model.module, step, data, self.train)

    def _find_ranges(self, model: TrainedModel, context: Context) -> None:
        """Let the model round, within the ranges that its activations have on training batches."""
        seen: dict[str, StreamingHistogram] = {}

        def observe(name: str, x: Tensor) -> None:
            seen.setdefault(name, StreamingHistogram()).add(x.detach().float().numpy())

        ranges = simulate(model.module)
        ranges.observer = observe
        with torch.no_grad():
            for _, batch in zip(range(self.batches), context.batches(context.train), strict=False):
                context.task.step(model.module.eval(), batch)
        ranges.observer = None
        if not seen:
            raise ModelpressError(f"quantize_aware: a model of {context.task.name} with no convolution and no product")
        calibration = Calibration(method=self.method, percentile=self.percentile)
        for name, histogram in seen.items():
            ranges.set(name, *find_range(histogram, calibration))
        print(f"ranges of {len(seen)} activations found on {self.batches} batches", flush=True)


class _Stepping(nn.Module):
    """A step as the forward pass of a module, which functional_call can give other weights."""

    def __init__(self, fitted: nn.Module, step: Step) -> None:
        super().__init__()
        self.fitted, self.step = fitted, step

    def forward(self, batch: Any) -> StepOutput:
        return self.step(self.fitted, batch)


def weights_in_blocks(module: nn.Module) -> dict[str, bool]:
    """Return the names of the weights that `weight_only` rounds, and whether an output may end in a part of a block."""
    found, seen = {}, set()
    for path, layer in module.named_modules():
        divided = isinstance(layer, (nn.Linear, nn.Embedding, nn.RNNBase))
        if not divided and not isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            continue
        together = 2 if isinstance(layer, nn.RNNBase) and layer.bidirectional else 1  # in a graph, both ways are one
        for name, weight in layer.named_parameters(path, recurse=False):
            if weight.dim() > 1 and weight.numel() * together >= SMALLEST and id(weight) not in seen:
                found[name] = divided
                seen.add(id(weight))
    return found
