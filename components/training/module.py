"""The Lightning module: any task's step as a training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from components.core.errors import ModelpressError
from components.core.task import StepOutput, TaskDataset
from components.training.batching import BucketBatches
from components.training.config import TrainConfig

Step = Callable[[nn.Module, Any], StepOutput]
DEV_BATCH = 64  # examples at least: no gradient needs a small batch there


class FitModule(LightningModule):
    """Fits `model` on `train` by `step`, a function of the model and a batch; watches the loss on `dev`."""

    def __init__(self, model: nn.Module, step: Step, train: TaskDataset, dev: TaskDataset, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self._step, self._config = step, config
        self.gradient_norm = torch.zeros(())  # of the last step, before clipping
        self._data = {"train": train, "dev": dev}
        self.steps_per_epoch = len(self._batches("train", 0))

    def __deepcopy__(self, memo: dict[int, Any]) -> FitModule:
        """Copy the weights alone: averaging needs a second model, not a second dataset or teacher."""
        from copy import deepcopy

        return FitModule(deepcopy(self.model, memo), self._step, self._data["train"], self._data["dev"], self._config)

    def training_step(self, batch: Any, _index: int) -> Tensor:
        return self._step(self.model, batch).loss

    def validation_step(self, batch: Any, _index: int) -> None:
        output = self._step(self.model, batch)
        weight = int(output.counted().sum())  # the mean over all targets, whatever the batches' sizes
        self.log_dict(
            {"dev_loss": output.loss, **{f"dev_{k}": v for k, v in output.metrics.items()}}, batch_size=weight
        )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # here, since Lightning's own clipping refuses fused optimizers
        most = self._config.clip or float("inf")
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._batches("train", self.current_epoch)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._batches("dev", None)

    def _batches(self, split: str, epoch: int | None) -> DataLoader[Any]:
        return batches(self._data[split], self._config, epoch)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = make_optimizer(list(self.model.parameters()), self._config)
        factor = _learning_rate_factor(self._config, self.steps_per_epoch * self._config.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches(data: TaskDataset, config: TrainConfig, epoch: int | None) -> DataLoader[Any]:
    """Return a split's batches, in an order drawn from the epoch's number, or in no order of chance for None."""
    seed = None if epoch is None else config.seed * 100_003 + epoch
    if config.tokens_per_batch is None:
        order = torch.Generator().manual_seed(seed or 0)
        shuffle = epoch is not None
        size = config.batch_size if shuffle else max(config.batch_size or 0, DEV_BATCH)
        return DataLoader(data, size, shuffle, generator=order, collate_fn=data.collate)  # type: ignore[arg-type]
    lengths = data.lengths()
    if lengths is None:
        raise ModelpressError("train.tokens_per_batch: this task's examples have no length; give batch_size")
    sampler = BucketBatches(lengths, config.tokens_per_batch, seed)
    return DataLoader(data, batch_sampler=sampler, collate_fn=data.collate)  # type: ignore[arg-type]


def endless_batches(data: TaskDataset, train: Mapping[str, Any]) -> Iterator[Any]:
    """Yield batches of epoch 0, 1, 2 and so on, as a recipe's `train` block makes them."""
    config = TrainConfig(**train)
    for epoch in itertools.count():
        yield from batches(data, config, epoch)


def make_optimizer(parameters: Sequence[Tensor], config: TrainConfig) -> Optimizer:
    """Return the optimizer of a fit; biases and norms, which have one axis, are not decayed."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.learning_rate)
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, config.learning_rate, fused=config.precision != "16-mixed")
    matrices = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.optimizer == "nesterov":
        return torch.optim.SGD(groups, config.learning_rate, config.momentum, nesterov=True)
    fused = config.precision != "16-mixed"  # a fused step unscales gradients itself, after they were to be clipped
    return torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, config.beta2), eps=1e-9, fused=fused)


def _learning_rate_factor(config: TrainConfig, total_steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return 1.0
        done = min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))

    return factor
