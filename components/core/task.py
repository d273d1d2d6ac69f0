"""What a task is: a problem with its data, model, loss and metric. One module in components/tasks each, TASK in it."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from components.core.config import Config, parse_config
from components.core.errors import ModelpressError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


@dataclass(frozen=True)
class Metric:
    """What a user judges the model by: `name` is a key of `Task.score`'s answer."""

    name: str
    mode: Literal["max", "min"] = "max"
    unit: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """A module with the config that builds it."""

    config: Any
    module: nn.Module

    def parameters(self) -> int:
        """Return how many numbers the module learns, tied ones once."""
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True)
class StepOutput:
    """What one training or validation step gives.

    loss: scalar the optimizer minimizes.
    logits: (..., classes), what a student is to match under logit distillation.
    targets: (...), the class ids; positions below zero or equal to the task's padding are not counted.
    Where numbers are predicted: logits the predictions, targets the true ones, floats of the same shape.
    metrics: scalars to log beside the loss.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    targets: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def numeric(self) -> bool:
        """Whether numbers are predicted, not classes."""
        return self.targets.is_floating_point()

    def counted(self) -> torch.Tensor:
        """Return which targets count, bool of their shape: class ids from zero, and all numbers."""
        import torch

        return torch.ones_like(self.targets, dtype=torch.bool) if self.numeric else self.targets >= 0


@dataclass(frozen=True)
class GraphSpec:
    """A module to be exported as one ONNX graph.

    example: positional tensors (or nested lists of tensors) that trace it.
    inputs, outputs: names of the flattened tensors.
    dynamic: for each positional example, {axis: size free to change} in torch.export's form.
    """

    name: str
    module: nn.Module
    example: tuple[Any, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    dynamic: tuple[Any, ...]


@dataclass(frozen=True)
class LoopSpec:
    """A graph with a loop inside: `start` once, then steps until all is done, then `finish` once.

    `start` gives `constants` (read by every step) and then `state` (carried from step to step). `body` takes both and
    gives "go_on" (bool scalar) and the new state in the same order, each name behind "next_". `finish` takes the parts
    of the last state it names as its inputs and gives the graph's outputs.

    `shrink`, where there is one, runs whenever `body` said stop: it takes constants and state, gives "again" (bool
    scalar) and both anew, and if again is true the steps go on. A search drops finished rows there.
    """

    name: str
    start: GraphSpec
    body: GraphSpec
    finish: GraphSpec
    constants: Sequence[str]
    state: Sequence[str]
    max_steps: int
    shrink: GraphSpec | None = None


class TaskDataset(Protocol):
    """A map-style dataset that knows how its examples make a batch."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...

    def collate(self, examples: list[Any]) -> Any:
        """Return one batch: a tuple of tensors."""

    def lengths(self) -> np.ndarray | None:
        """Return (examples, 2) int64 lengths to bucket by (target first, then source), or None for fixed batches."""

    def inputs(self) -> Sequence[Any]:
        """Return what the predictor takes, one an example."""

    def references(self) -> Sequence[Any]:
        """Return what the predictor should answer, one an example."""

    def with_targets(self, answers: list[Any]) -> TaskDataset:
        """Return the same inputs with other targets: a teacher's answers, for sequence-level distillation."""

    def __add__(self, other: Any) -> TaskDataset:
        """Return the examples of both."""


@runtime_checkable
class ClosedForm(Protocol):
    """A module whose best weights can be computed: `train` calls `solve` in the place of an optimizer."""

    def solve(self, train: TaskDataset, seed: int) -> Mapping[str, float]:
        """Set the weights from the training data; return what the curve's only row says (`train_loss`)."""


@runtime_checkable
class DividedDataset(Protocol):
    """A dataset that can give a part of itself; of others all inputs are made where a few are needed."""

    def rows(self, numbers: Sequence[int]) -> TaskDataset:
        """Return the examples of these numbers, in this order."""


class Task(ABC):
    """A problem modelpress can train, compress, export and prove."""

    name: str
    metric: Metric
    Split: type[Config] | None = None  # datasets.<name>.split; None where it depends on the reader the split names
    Data: type[Config]  # recipes.<name>.data
    Model: type[Config]  # recipes.<name>.model
    Options: type[Config]  # variants.<name>.options: how the exported graph answers (e.g. beam width)
    predictor: str  # module in components/inference that answers with an exported graph, without torch

    def check_split(self, split: Mapping[str, Any], where: str) -> None:
        """Raise ConfigError where `datasets.<name>.split`, which stands at `where`, is not what `prepare` reads."""
        if self.Split is not None:
            parse_config(self.Split, dict(split), where)

    @abstractmethod
    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: Any) -> dict[str, Any]:
        """Turn raw files into `out/<split>` and `out/assets` (what the predictor needs); return facts worth showing."""

    @abstractmethod
    def dataset(self, root: Path, split: str) -> TaskDataset:
        """Return a prepared split: "train", "dev" or "test"."""

    @abstractmethod
    def build_model(self, config: Any, root: Path) -> nn.Module:
        """Return an untrained model of a config; `root` is the prepared data that fixes its input and output sizes."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Any) -> StepOutput:
        """Return loss and logits of one batch; the model's mode says whether it is a training step."""

    @abstractmethod
    def graphs(self, model: nn.Module, options: Any) -> list[GraphSpec | LoopSpec]:
        """Return what is exported: named graphs, each with the shapes that may change."""

    @abstractmethod
    def score(self, predictor: Any, examples: Any) -> dict[str, float]:
        """Return {metric: value} of a predictor: the same code for torch and for every ONNX variant."""

    def protocols(self) -> list[Any]:
        """Return the Options under which every torch model is scored, whichever its variants are exported with."""
        return [self.Options()]

    def signature(self, examples: Any) -> str:
        """Return how the metric was computed, in the words of the library that did, or nothing."""
        return ""

    @abstractmethod
    def score_model(self, model: nn.Module, examples: Any) -> dict[str, float]:
        """Return metrics that only the torch model can give (e.g. teacher-forced ones)."""


def task_names() -> list[str]:
    """Return the names of all tasks: the modules of components/tasks."""
    folder = Path(__file__).parents[1] / "tasks"
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]))


def load_task(name: str) -> Task:
    """Return `TASK` of components.tasks.<name>.

    Raises:
        ModelpressError: there is no such module.
    """
    if name not in task_names():
        raise ModelpressError(f"task {name!r}: no components/tasks/{name}.py{did_you_mean(name, task_names())}")
    task: Task = importlib.import_module(f"components.tasks.{name}").TASK
    return task
