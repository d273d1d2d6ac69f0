"""What a pass is given: the task and its data, the recipe's teacher, and the means to fit and to ask."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from components.compression.kept_logits import KeptLogits
from components.core.task import StepOutput, Task, TaskDataset, TrainedModel

Step = Callable[[nn.Module, Any], StepOutput]


@dataclass(frozen=True)
class Context:
    """Everything outside a pass's own parameters.

    fit: trains a module in place by a step on a dataset; the mapping overrides single numbers of the recipe's `train`.
    batches: endless batches of a dataset, always the same ones.
    answers: what a model answers to a dataset's inputs, searching as the task's Options given by the mapping.
    kept_logits: what a model says of each of a dataset's examples, so many classes of it, at a temperature.
    """

    task: Task
    root: Path
    train: TaskDataset
    teacher: TrainedModel
    fit: Callable[[nn.Module, Step, TaskDataset, Mapping[str, Any]], None]
    batches: Callable[[TaskDataset], Iterator[Any]]
    answers: Callable[[TrainedModel, TaskDataset, Mapping[str, Any]], list[Any]]
    kept_logits: Callable[[TrainedModel, TaskDataset, int, float], KeptLogits]


class Frozen:
    """A model that others learn from, wherever they are trained: on a GPU it has a copy there."""

    def __init__(self, module: nn.Module) -> None:
        self._on: dict[torch.device, nn.Module] = {_device(module): module.eval()}

    def beside(self, student: nn.Module) -> nn.Module:
        """Return the model on the student's device."""
        device = _device(student)
        if device not in self._on:
            self._on[device] = copy.deepcopy(next(iter(self._on.values()))).to(device)
        return self._on[device]


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


class Pass(Protocol):
    """A frozen config that turns one model into another and leaves its input as it was."""

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel: ...
