"""Fit a model: Lightning's trainer, set up so that a killed run goes on from its last epoch to the same weights."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from components.core.task import ClosedForm, TaskDataset
from components.core.threads import threads
from components.training.callbacks import Curves, Log, ProgressLines, StepSeed, averaged_weights
from components.training.config import TrainConfig
from components.training.kept_memory import keep_freed_memory
from components.training.module import FitModule, Step

CurveRow = dict[str, float]
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # x86's and Arm's, as torch names them


def fit(
    model: nn.Module,
    step: Step,
    train: TaskDataset,
    dev: TaskDataset,
    config: TrainConfig,
    checkpoints: Path,
    log: Log = lambda _step, _values: None,
) -> list[CurveRow]:
    """Train `model` in place and return its curves.

    step: the loss of a batch (a task's own, or a pass's). A model with a closed form is solved instead; of its config
    only the seed counts.
    checkpoints: a folder of this fit alone; one found there is resumed, so its name must change with the inputs.
    """
    torch.set_num_threads(threads())
    if isinstance(model, ClosedForm):
        return [{"step": 1, "epoch": 1, **model.solve(train, config.seed)}]
    keep_freed_memory()
    _quiet_lightning()
    curves = Curves(log)
    callbacks = [StepSeed(config.seed), curves, ProgressLines()]
    if config.ema:
        callbacks.append(averaged_weights(config.ema))
    callbacks.append(
        ModelCheckpoint(checkpoints, "last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True)
    )
    model.train()  # a copy of a finished model comes in eval mode, which Lightning would keep: no dropout
    module = FitModule(model, step, train, dev, config)
    trainer = Trainer(
        max_epochs=config.epochs,
        precision=precision_here(config.precision),
        callbacks=callbacks,
        logger=False,
        devices=1,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        num_sanity_val_steps=0,
        val_check_interval=config.dev_every and min(config.dev_every, module.steps_per_epoch),
        reload_dataloaders_every_n_epochs=1,  # each epoch has batches of its own, drawn from its number
        default_root_dir=checkpoints,
    )
    checkpoint = _readable(checkpoints / "last.ckpt")
    if checkpoint and checkpoint["epoch"] + 1 >= config.epochs:  # killed behind its last epoch: nothing to train
        module.load_state_dict(checkpoint["state_dict"])
        curves.load_state_dict(checkpoint["callbacks"][curves.state_key])
    else:
        trainer.fit(module, ckpt_path=checkpoints / "last.ckpt" if checkpoint else None, weights_only=True)
    model.eval()
    return curves.rows


def precision_here(wanted: str) -> str:
    """Return the precision to train in: a CPU without instructions for bfloat16 takes many times as long in it."""
    in_hardware = torch.cuda.is_available() or any(map(torch.cpu.get_capabilities().get, BF16_INSTRUCTIONS))
    if wanted != "bf16-mixed" or in_hardware:
        return wanted
    print("training in float32: this CPU has no instructions for bfloat16", flush=True)
    return "32-true"


def _readable(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint, or None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        print(f"resuming behind epoch {checkpoint['epoch'] + 1}", flush=True)
    except Exception as error:  # whatever a half-written file raises: training again is always right
        print(f"{path}: unreadable ({type(error).__name__}), training from the start", flush=True)
        path.unlink()
        return None
    return checkpoint


def _quiet_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*`isinstance.treespec, LeafSpec.` is deprecated.*")
