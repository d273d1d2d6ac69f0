"""Models on disk: weights as safetensors; beside, as JSON, the config that builds them and ranges they round within."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from components.core.config import parse_config
from components.core.files import read_json, write_json
from components.core.task import Task, TrainedModel
from components.export.fake_quant import load_ranges, save_ranges


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write model.safetensors, model.json and, of a model that rounds, ranges.json into a folder."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.module.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "model.json", model.config.model_dump(exclude_none=True))
    save_ranges(model.module, folder)


def load_model(task: Task, folder: Path, root: Path) -> TrainedModel:
    """Read a model written by save_model; `root` is the prepared data it was trained on."""
    config = parse_config(task.Model, read_json(folder / "model.json"), f"{folder}/model.json")
    module = task.build_model(config, root)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    load_ranges(module, folder)
    return TrainedModel(config, module.eval())


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch: the first weights of a model depend on nothing else."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
