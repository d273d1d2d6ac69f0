"""What watches a fit: averaged weights, curves, progress, and a seed for each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

Log = Callable[[int, Mapping[str, float]], None]
LOG_EVERY = 20  # steps between two points of a curve


def averaged_weights(decay: float) -> WeightAveraging:
    """Return the callback that keeps an exponential moving average of the weights, used for validation and at the end.

    The average forgets faster in the first steps, so that it does not remember the random start.
    """

    def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        done = int(count)
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + done) / (10 + done)))

    return WeightAveraging(multi_avg_fn=torch.no_grad()(update), use_buffers=False)


class StepSeed(Callback):
    """Seeds torch before each step, so that a resumed run draws what an uninterrupted one does.

    Once an epoch is not enough: Lightning makes its data iterators, which draw too, at other moments when it resumes.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(self.seed * 1_000_003 + trainer.global_step)


class Curves(Callback):
    """Collects rows of {step, epoch, train_loss, gradient_norm, learning_rate, dev_*}; the checkpoint holds them too.

    Losses and gradient norms are means over the steps since the row before.
    """

    def __init__(self, log: Log) -> None:
        self.rows: list[dict[str, float]] = []
        self._log, self._sums = log, torch.zeros(3)  # of losses, gradient norms, steps

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        loss, norm = outputs["loss"].detach().float(), pl_module.gradient_norm.float()
        self._sums = self._sums.to(loss.device) + torch.stack([loss, norm.to(loss.device), torch.ones_like(loss)])
        if trainer.global_step % LOG_EVERY == 0:
            self._add(trainer, {})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._add(trainer, {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()})

    def _add(self, trainer: Trainer, more: dict[str, float]) -> None:
        row: dict[str, float] = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1, **more}
        loss, norm, steps = self._sums.tolist()
        if steps:
            row |= {"train_loss": round(loss / steps, 6), "gradient_norm": round(norm / steps, 6)}
        row["learning_rate"] = round(trainer.optimizers[0].param_groups[0]["lr"], 9)
        self._sums.zero_()
        self.rows.append(row)
        self._log(trainer.global_step, {k: v for k, v in row.items() if k != "step"})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "sums": self._sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._sums = state_dict["rows"], state_dict["sums"]


class ProgressLines(Callback):
    """Prints a line every few seconds: epochs done of all (parsed by the flow's live view), loss, time left."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self.every = every_seconds
        self._started = self._printed = time.monotonic()
        self._first_step = 0
        self._share = 0.0  # of the epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._share = (batch_idx + 1) / trainer.num_training_batches
        if time.monotonic() - self._printed >= self.every:
            self._print(trainer, outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._share == 1 or time.monotonic() - self._printed >= self.every:
            self._print(trainer, None)

    def _print(self, trainer: Trainer, outputs: Any) -> None:
        self._printed = time.monotonic()
        epochs, total = trainer.current_epoch + self._share, trainer.max_epochs or 1
        done = trainer.global_step - self._first_step
        steps_left = (total - epochs) * trainer.num_training_batches
        left = (time.monotonic() - self._started) / max(1, done) * steps_left
        if outputs is None:
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in trainer.callback_metrics.items())
        else:
            values = f"loss {float(outputs['loss']):.3f}"
        print(f"progress {epochs:.2f}/{total} epochs, {values}, about {left:.0f} s left", flush=True)
