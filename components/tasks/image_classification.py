"""Image classification: which of a few things a picture shows, by a plain, residual, separable or dense network.

Metric: accuracy in percent. Expect on fashion-mnist, test: MobileNet about 93, DenseNet about 94 (two people agree on
about as many); on 3,600 training photos of eurosat-rgb: MobileNet above 90.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.config import Config
from components.core.errors import ConfigError
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.image_augmentation import Augmentation, augment
from components.data.image_dataset import (
    READERS,
    ImageDataset,
    prepare_images,
    read_normalization,
    read_picture_shape,
)
from components.data.readers import choose_reader
from components.evaluation.labelled import accuracy
from components.inference.labels import read_labels
from components.models.cnn import PlainCnn
from components.models.densenet import DenseNet
from components.models.image_layers import ImageClassifier, Trunk, stage_strides, stage_widths
from components.models.mobilenet import MobileNetV1, MobileNetV2
from components.models.multiply_adds import multiply_adds
from components.models.resnet import ResNet


class DataConfig(Config):
    """recipes.<name>.data: nothing to choose, the pictures are taken as they come."""


_LAYOUT = {"architecture", "width", "depths", "expansion", "growth", "bottleneck", "compression"}
_LAYERS = ("channels", "hidden", "transitions")


class ModelConfig(Config):
    """A teacher or a student of any architecture, in stages: each after the first halves the picture.

    `width` and `depths` lay it out; a pruned model gives the numbers of every layer instead: `channels`, `hidden` (of a
    mobilenet_v2 also the features, last) and `transitions`.
    """

    architecture: Literal["cnn", "resnet", "mobilenet_v1", "mobilenet_v2", "densenet"]
    width: int = Field(gt=0, description="channels of the first stage, doubled in each; of a densenet's stem")
    depths: tuple[int, ...] = Field((2, 2, 2), min_length=1, description="layers of each stage; 0: stem alone")
    stem_stride: Literal[1, 2] = Field(1, description="2 halves the picture at once")
    expansion: int = Field(4, gt=0, description="mobilenet_v2: hidden channels, and features, for each channel")
    growth: int = Field(12, gt=0, description="densenet: features each layer adds")
    bottleneck: int = Field(4, gt=0, description="densenet: hidden channels for each feature added")
    compression: float = Field(0.5, gt=0, le=1, description="densenet: share of the features kept between stages")
    channels: tuple[int, ...] | None = Field(None, description="stem and layers; densenet: features each layer adds")
    hidden: tuple[int, ...] | None = Field(None, description="inside each block (cnn, mobilenet_v1: none)")
    transitions: tuple[int, ...] | None = Field(None, description="densenet: features kept behind each stage")
    # how it is trained
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: Augmentation = Augmentation()

    def idle(self) -> Mapping[str, str]:
        """Return the options that belong to other architectures."""
        owners = {"expansion": "mobilenet_v2", **dict.fromkeys(("growth", "bottleneck", "compression"), "densenet")}
        return {
            key: f"is of architecture {owner}, but architecture is {self.architecture}"
            for key, owner in owners.items()
            if owner != self.architecture
        }

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        self.explicit()
        return self

    def changed(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return these values with changes; another layout begins without the numbers a pruned model gives itself."""
        kept = super().changed(changes)
        return {**{k: v for k, v in kept.items() if k not in _LAYERS}, **changes} if changes.keys() & _LAYOUT else kept

    def explicit(self) -> Self:
        """Return the same model with every layer's numbers written out, as a pruned model needs them."""
        if self.depths[0] < 0 or min(self.depths[1:], default=self.depths[0]) < 1:
            raise ValueError(f"depths: at least one layer a stage, or none behind the stem, got {list(self.depths)}")
        layers, widths = sum(self.depths), stage_widths(self.width, self.depths)
        hidden = {
            "resnet": widths,
            "mobilenet_v2": [self.expansion * before for before in [self.width, *widths]],
            "densenet": [self.bottleneck * self.growth] * layers,
        }.get(self.architecture, [])
        dense = self.architecture == "densenet"
        channels = _counts(self.channels, [self.growth] * layers if dense else [self.width, *widths], "channels")
        return self.model_copy(
            update={
                "channels": channels,
                "hidden": _counts(self.hidden, hidden, "hidden"),
                "transitions": _counts(self.transitions, self._kept(channels) if dense else [], "transitions"),
            }
        )

    def _kept(self, growth: Sequence[int]) -> list[int]:
        """Return the features a densenet keeps behind each stage but the last."""
        features, kept, more = self.width, [], iter(growth)
        for depth in self.depths[:-1]:
            features = max(1, int((features + sum(islice(more, depth))) * self.compression))
            kept.append(features)
        return kept


def _counts(given: tuple[int, ...] | None, laid_out: list[int], key: str) -> tuple[int, ...]:
    counts = tuple(laid_out) if given is None else given
    if len(counts) != len(laid_out) or min(counts, default=1) < 1:
        raise ValueError(f"{key}: {len(laid_out)} numbers above zero are needed, got {list(counts)}")
    return counts


class AnswerOptions(Config):
    """variants.<name>.options: the graph answers in one way only."""


class Classify(nn.Module):
    """A classifier as a user meets it: the most probable class and the probability of each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        probability_BC = self.model(image_BHWC).float().softmax(-1)
        return probability_BC.argmax(-1), probability_BC


class ImageClassification(Task):
    """See the module."""

    name = "image_classification"
    metric = Metric("accuracy", "max", "%")
    Data, Model, Options = DataConfig, ModelConfig, AnswerOptions
    predictor = "image_classification"

    def check_split(self, split: Mapping[str, Any], where: str) -> None:
        choose_reader(READERS, split, where)

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_images(raw, out, split)

    def dataset(self, root: Path, split: str) -> ImageDataset:
        return ImageDataset.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        picture = read_picture_shape(root)
        _check_fit(config, picture)
        trunk = _trunk(config.explicit(), inputs=picture[-1])
        model: Any = ImageClassifier(trunk, len(read_labels(root / "assets")), *read_normalization(root))
        model.picture = picture
        model.label_smoothing, model.augment = config.label_smoothing, config.augment
        return model.to(memory_format=torch.channels_last)

    def step(self, model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput:
        image_BHWC, classes_B, view_BHWC = batch
        if model.training:
            view_BHWC.copy_(augment(image_BHWC, model.augment))
        logits_BC = model(view_BHWC).float()
        loss = F.cross_entropy(logits_BC, classes_B, label_smoothing=model.label_smoothing if model.training else 0.0)
        accuracy = 100 * (logits_BC.argmax(-1) == classes_B).float().mean()
        return StepOutput(loss, logits_BC, classes_B, {"accuracy": accuracy})

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        picture = torch.zeros(2, *model.picture, dtype=torch.uint8)
        free = ({0: torch.export.Dim("batch")},)
        return [GraphSpec("classify", Classify(model), (picture,), ["image"], ["label", "probability"], free)]

    def score(self, predictor: Any, examples: ImageDataset) -> dict[str, float]:
        return {"accuracy": accuracy(predictor.predict(examples.inputs()), examples.references())}

    def score_model(self, model: nn.Module, examples: ImageDataset) -> dict[str, float]:
        """Return `multiply_adds_m`: millions of multiplications with an addition for one picture."""
        image_BHWC, _, _ = examples.collate([examples[0]])
        return {"multiply_adds_m": multiply_adds(model.eval(), image_BHWC) / 1e6}


def _check_fit(config: ModelConfig, picture: Sequence[int]) -> None:
    """Compare a config with the pictures (H, W, C) it is for.

    Raises:
        ConfigError: more halvings than the pictures bear, or views that they have not.
    """
    height, width, _ = picture
    problems = []
    most = math.log2(min(height, width))  # a densenet's halving leaves out an odd row, the others' takes it in
    most = math.floor(most) if config.architecture == "densenet" else math.ceil(most)
    if (halvings := len(config.depths) - 1 + config.stem_stride // 2) > most:
        problems.append(f"depths: {halvings} halvings are too many for pictures of {width} x {height}")
    if config.augment.flip == "dihedral" and height != width:
        problems.append(f"augment.flip: dihedral needs square pictures, these are {width} x {height}")
    for name in ("shift", "cutout"):
        if (points := getattr(config.augment, name)) >= min(height, width):
            problems.append(f"augment.{name}: {points} is out of pictures of {width} x {height}")
    if problems:
        raise ConfigError(problems)


def _trunk(config: ModelConfig, inputs: int) -> Trunk:
    """Return the network of an explicit config for pictures of that many channels."""
    assert config.channels is not None
    assert config.hidden is not None
    assert config.transitions is not None
    strides, stem = stage_strides(config.depths), config.stem_stride
    match config.architecture:
        case "cnn":
            return PlainCnn(inputs, config.channels, strides, stem)
        case "resnet":
            return ResNet(inputs, config.channels, config.hidden, strides, stem)
        case "mobilenet_v1":
            return MobileNetV1(inputs, config.channels, strides, stem)
        case "mobilenet_v2":
            *hidden, outputs = config.hidden
            return MobileNetV2(inputs, config.channels, hidden, strides, outputs, stem)
    return DenseNet(inputs, config.width, config.depths, config.channels, config.hidden, config.transitions, stem)


TASK = ImageClassification()
