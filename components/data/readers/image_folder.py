"""Pictures in one folder a class, <class>/<file>, with train.txt and test.txt that list each split's paths."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from components.core.config import Config
from components.core.errors import ModelpressError
from components.data.readers.text_lines import read_lines
from components.inference.image_classification import open_picture


class Split(Config):
    """datasets.<name>.split of this reader."""

    reader: Literal["image_folder"]
    channels: Literal[1, 3] = Field(3, description="grey or red, green, blue")
    dev_per_class: int = Field(gt=0, description="pictures of each class that leave train for dev")
    seed: int = 1


def read(raw: Path, split: Split) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return the labels, in alphabetical order, and the listed splits: uint8 (N, H, W, channels) and int64 (N,).

    Their order is one of chance, drawn from the seed: a list that goes class by class would put one class first, and
    the first pictures are those that travel with a bundle.

    Raises:
        ModelpressError: a missing list or picture, one that can't be read, pictures of different sizes.
    """
    paths = {name: _shuffled(read_lines(raw / f"{name}.txt"), split.seed) for name in ("train", "test")}
    labels = sorted({_label(path) for path in paths["train"]})
    return labels, {name: _read_split(raw, found, labels, split.channels) for name, found in paths.items()}


def _read_split(raw: Path, paths: list[str], labels: list[str], channels: int) -> tuple[np.ndarray, np.ndarray]:
    images = [open_picture(str(raw / path), channels) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if _label(path) not in labels:
            raise ModelpressError(f"{raw / path}: no picture of this class in train.txt; list some there")
        if image.shape != images[0].shape:
            sizes = " and ".join("x".join(map(str, shape[1::-1])) for shape in (images[0].shape, image.shape))
            raise ModelpressError(f"{raw / path}: sizes differ ({sizes}); bring all pictures to one size")
    classes = [labels.index(_label(path)) for path in paths]
    return np.stack(images), np.array(classes, np.int64)


def _shuffled(paths: list[str], seed: int) -> list[str]:
    return [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]


def _label(path: str) -> str:
    return path.rpartition("/")[0]
