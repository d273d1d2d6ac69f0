"""Quantization-aware training: the model trains with the rounding of its int8 graph (Jacob et al. 2018).

First the ranges of activations are found on training batches, as static int8 finds them; then the weights are trained
with everything rounded, the ranges fixed. Both travel with the model, which rounds wherever it is used: its scores are
those of the int8 graph, and `export` with `quantize: {method: static}` takes its ranges in place of calibrated ones.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from components.compression.context import Context
from components.compression.distill import Logit, distilling_step
from components.core.config import Config
from components.core.errors import ModelpressError
from components.core.params import Calibration, unread_percentile
from components.core.task import LoopSpec, TrainedModel
from components.export.fake_quant import plain, simulate
from components.export.ranges import StreamingHistogram, find_range


class QuantizeAware(Config):
    """How ranges are found, and the training that follows."""

    bits: Literal[8] = 8
    batches: int = Field(16, gt=0, description="batches of train the ranges are found on")
    method: Literal["min_max", "percentile", "entropy"] = "percentile"
    percentile: float = Field(99.99, gt=50, le=100)
    logit: Logit | None = None
    train: dict[str, Any] = {}

    def idle(self) -> Mapping[str, str]:
        return unread_percentile(self.method)

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a copy of `model` that rounds, fine-tuned to the recipe's teacher.

        Raises:
            ModelpressError: the task answers by a graph with a loop, or the model has no layer that could be rounded.
        """
        task = context.task
        if any(isinstance(spec, LoopSpec) for spec in task.graphs(model.module.eval(), task.Options())):
            raise ModelpressError(f"quantize_aware: {task.name} answers by a loop, which has no static int8")
        rounding = TrainedModel(model.config, copy.deepcopy(plain(model.module)))
        self._find_ranges(rounding, context)
        step = distilling_step(task, context.teacher, self.logit)
        with warnings.catch_warnings():
            # norms are, on purpose
            warnings.filterwarnings("ignore", message=r".*in eval mode at the start of training.*")
            context.fit(rounding.module, step, context.train, self.train)
        return rounding

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
