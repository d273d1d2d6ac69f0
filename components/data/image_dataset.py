"""Labelled pictures as byte arrays on disk, and the dataset that batches them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.errors import ModelpressError
from components.core.files import read_json, write_json, write_text
from components.data.readers import choose_reader, idx_images, image_folder
from components.inference.image_classification import MODES
from components.inference.labels import read_labels

READERS: Mapping[str, Any] = {"idx_images": idx_images, "image_folder": image_folder}

Labelled = tuple[np.ndarray, np.ndarray]  # pictures uint8 (N, H, W, C), classes int64 (N,)


def prepare_images(raw: Path, out: Path, split: Mapping[str, Any]) -> dict[str, Any]:
    """Write each split's arrays, and mean and deviation of the training pictures; return what is worth showing.

    dev is drawn from upstream's training pictures, test is upstream's; a picture of train or dev that stands in a split
    judged later leaves the earlier one.

    Raises:
        ModelpressError: an unknown reader or parameter, a malformed raw file, too few pictures.
    """
    labels, splits = _read_raw(raw, split)
    counts = {name: len(classes_N) for name, (_, classes_N) in splits.items()}
    splits["train"] = _without(splits["train"], splits["test"])
    rest, dev = _draw_dev(splits["train"], split["dev_per_class"], split.get("seed", 1), raw.name)
    splits = {"train": _without(rest, dev), "dev": dev, "test": splits["test"]}
    for name, (images_NHWC, classes_N) in splits.items():
        (out / name).mkdir(parents=True)
        np.save(out / name / "images.npy", images_NHWC)
        np.save(out / name / "classes.npy", classes_N)
    _, height, width, channels = splits["train"][0].shape
    mean, deviation = mean_and_deviation(splits["train"][0])
    facts = {
        "pictures": {name: len(classes_N) for name, (_, classes_N) in splits.items()},
        "left_out": sum(counts.values()) - sum(len(classes_N) for _, classes_N in splits.values()),
        "mean": mean,
        "deviation": deviation,
    }
    write_text(out / "assets" / "labels.txt", "".join(f"{label}\n" for label in labels))
    write_json(out / "assets" / "picture.json", {"height": height, "width": width, "channels": channels})
    write_json(out / "images.json", facts)
    return facts


def _read_raw(raw: Path, split: Mapping[str, Any]) -> tuple[list[str], dict[str, Labelled]]:
    reader, parameters = choose_reader(READERS, split, f"datasets.{raw.name}.split")
    found: tuple[list[str], dict[str, Labelled]] = reader.read(raw, parameters)
    return found


def _draw_dev(data: Labelled, per_class: int, seed: int, dataset: str) -> tuple[Labelled, Labelled]:
    """Return what is left for train, and dev with as many pictures of each class, both in their old order."""
    images_NHWC, classes_N = data
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(classes_N), bool)
    for number in range(int(classes_N.max()) + 1):
        (rows,) = np.nonzero(classes_N == number)
        if len(rows) <= per_class:
            where = f"datasets.{dataset}.split.dev_per_class"
            raise ModelpressError(f"{where}: {per_class} of class {number}, which has {len(rows)}; ask for fewer")
        held_out[rng.permutation(rows)[:per_class]] = True
    train, dev = ((images_NHWC[keep], classes_N[keep]) for keep in (~held_out, held_out))
    return train, dev


def _without(data: Labelled, judged: Labelled) -> Labelled:
    """Return the pictures that do not occur, point for point, in a split that judges the model."""
    known = {image.tobytes() for image in judged[0]}
    keep = np.array([image.tobytes() not in known for image in data[0]])
    return data[0][keep], data[1][keep]


def mean_and_deviation(images_NHWC: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and each channel's standard deviation about its own, in the unit of the bytes, one a channel.

    The mean is a whole number, the same for all channels: beyond its edge a normalized picture is then that very byte.
    An int8 graph reads bytes and pads with one; with a mean for each channel it saw other edges than the model did,
    which alone cost 1 % of the answers on eurosat-rgb's small network.
    """
    values = np.arange(256.0)
    means, deviations = [], []
    for channel in range(images_NHWC.shape[-1]):
        share = np.bincount(images_NHWC[..., channel].ravel(), minlength=256) / images_NHWC[..., channel].size
        means.append(float(share @ values))
        deviation = float(share @ (values - means[-1]) ** 2) ** 0.5
        deviations.append(round(max(1.0, deviation), 6))  # pictures of a single grey are divided by something
    grey = float(round(sum(means) / len(means)))
    return [grey] * len(means), deviations


@dataclass(frozen=True)
class ImageDataset:
    """One split: images uint8 (N, H, W, C), classes int64 (N,), and the classes' names."""

    images: np.ndarray
    classes: np.ndarray
    labels: list[str]

    @classmethod
    def load(cls, root: Path, split: str) -> ImageDataset:
        """Read a split written by prepare_images; the pictures stay on disk until they are asked for."""
        images_NHWC = np.load(root / split / "images.npy", mmap_mode="r", allow_pickle=False)
        return cls(images_NHWC, np.load(root / split / "classes.npy", allow_pickle=False), read_labels(root / "assets"))

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        return self.images[index], self.classes[index]

    def collate(self, examples: list[tuple[np.ndarray, np.int64]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures uint8 (B, H, W, C), classes int64 (B,), and the view that is shown, at first the pictures.

        A training step draws the view anew, in place: whoever is asked about the same batch after it, such as a
        teacher, sees what the student saw (Beyer et al. 2022).
        """
        images, classes = zip(*examples, strict=True)
        image_BHWC = torch.from_numpy(np.stack(images))
        return image_BHWC, torch.from_numpy(np.stack(classes)), image_BHWC.clone()

    def lengths(self) -> None:
        """Return None: all pictures are of one size, so the recipe gives batch_size."""

    def inputs(self) -> list[str]:
        """Return each picture as the predictor takes it: a data URL, which needs no file."""
        return [data_url(image) for image in self.images]

    def references(self) -> list[str]:
        """Return each picture's label."""
        return [self.labels[number] for number in self.classes]

    def with_targets(self, answers: list[Any]) -> ImageDataset:
        """Return the same pictures with the labels a predictor gave them."""
        number = {label: i for i, label in enumerate(self.labels)}
        return replace(self, classes=np.array([number[answer["label"]] for answer in answers], np.int64))

    def rows(self, numbers: Sequence[int]) -> ImageDataset:
        """Return the pictures of these numbers, in this order; no others are read."""
        return replace(self, images=self.images[list(numbers)], classes=self.classes[list(numbers)])

    def __add__(self, other: ImageDataset) -> ImageDataset:
        """Return the pictures of both."""
        images, classes = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("images", "classes")
        )
        return replace(self, images=images, classes=classes)


def read_normalization(root: Path) -> tuple[list[float], list[float]]:
    """Return the training pictures' mean and deviation, one a channel."""
    facts = read_json(root / "images.json")
    return facts["mean"], facts["deviation"]


def read_picture_shape(root: Path) -> tuple[int, int, int]:
    """Return height, width and channels."""
    shape = read_json(root / "assets" / "picture.json")
    return shape["height"], shape["width"], shape["channels"]


def data_url(image_HWC: np.ndarray) -> str:
    """Return a picture uint8 (H, W, C) as PNG in a data URL."""
    from PIL import Image

    pixels = image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels), MODES[image_HWC.shape[-1]]).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
