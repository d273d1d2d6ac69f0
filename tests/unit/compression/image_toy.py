"""A picture classifier and its context small enough for a test: bright left halves against bright right halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.compression.context import Context
from components.core.config import parse_config
from components.core.files import write_json, write_text
from components.core.task import TrainedModel
from components.data.image_dataset import ImageDataset
from components.tasks.image_classification import TASK, ModelConfig

ARCHITECTURES = ("cnn", "resnet", "mobilenet_v1", "mobilenet_v2", "densenet")


def write_facts(root: Path) -> Path:
    """Write what a model looks at in prepared data of 8 x 8 grey pictures in two classes."""
    write_text(root / "assets" / "labels.txt", "left\nright\n")
    write_json(root / "assets" / "picture.json", {"height": 8, "width": 8, "channels": 1})
    write_json(root / "images.json", {"mean": [100.0], "deviation": [60.0]})
    return root


def halves(count: int = 64) -> ImageDataset:
    """Return pictures of noise with a brighter half."""
    rng = np.random.default_rng(0)
    images, classes = rng.integers(0, 128, (count, 8, 8, 1), np.uint8), np.arange(count) % 2
    for image, number in zip(images, classes, strict=True):
        image[:, 4 * number : 4 * number + 4] += 90
    return ImageDataset(images, classes, ["left", "right"])


def lively(root: Path, **changes: Any) -> TrainedModel:
    """Return a model whose norms have statistics and weights like a trained one's, not zeros and ones."""
    torch.manual_seed(0)
    dense = {"growth": 3, "bottleneck": 2} if changes.get("architecture") == "densenet" else {}
    config = parse_config(ModelConfig, {"width": 6, "depths": [1, 2], **dense, **changes}, "model")
    model = TrainedModel(config, TASK.build_model(config, root).eval())
    with torch.no_grad():
        for name, tensor in model.module.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.2)
    return model


def pictures(count: int = 4) -> Tensor:
    return torch.from_numpy(halves(count).images)


@dataclass
class Fitted:
    """Notes what a pass asked to have fitted, and fits it a few steps."""

    steps: int = 0
    calls: list[Mapping[str, Any]] = field(default_factory=list)

    def fit(self, module: nn.Module, step: Callable[..., Any], data: Any, changes: Mapping[str, Any]) -> None:
        self.calls.append(changes)
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        module.train()
        for _, batch in zip(range(self.steps), batches(data), strict=False):
            optimizer.zero_grad()
            step(module, batch).loss.backward()
            optimizer.step()
        module.eval()


def batches(data: ImageDataset) -> Iterator[Any]:
    for start in cycle(range(0, len(data), 16)):
        yield data.collate([data[i] for i in range(start, start + 16)])


def context(root: Path, teacher: TrainedModel, fitted: Fitted) -> Context:
    return Context(
        task=TASK,
        root=root,
        train=halves(),
        teacher=teacher,
        fit=fitted.fit,
        batches=batches,
        answers=lambda *_: [],
        kept_logits=lambda *_: None,
    )
