"""MNIST's files (LeCun et al. 1998) and those that took over its form: gzipped IDX, one of pictures, one of labels."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from components.core.config import Config
from components.core.errors import ModelpressError

_PREFIXES = {"train": "train", "test": "t10k"}
_BYTES = 0x08  # the type code of unsigned bytes, the only one these data sets use


class Split(Config):
    """datasets.<name>.split of this reader; the files name no classes, so `labels` does."""

    reader: Literal["idx_images"]
    labels: list[str] = Field(min_length=2)
    dev_per_class: int = Field(gt=0, description="pictures of each class that leave train for dev")
    seed: int = 1


def read(raw: Path, split: Split) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return the labels and upstream's splits: pictures uint8 (N, H, W, 1) and classes int64 (N,).

    Raises:
        ModelpressError: a missing or malformed file, pictures and labels that don't fit, a class without a label.
    """
    return split.labels, {name: _read_pair(raw, prefix, len(split.labels)) for name, prefix in _PREFIXES.items()}


def _read_pair(raw: Path, prefix: str, labels: int) -> tuple[np.ndarray, np.ndarray]:
    path = raw / f"{prefix}-labels-idx1-ubyte.gz"
    images_NHW, classes_N = read_idx(raw / f"{prefix}-images-idx3-ubyte.gz", 3), read_idx(path, 1)
    if len(images_NHW) != len(classes_N):
        raise ModelpressError(f"{path}: {len(classes_N):,} labels for {len(images_NHW):,} pictures; fetch again")
    if len(classes_N) and classes_N.max() >= labels:
        found = f"class {classes_N.max()}, but {labels} labels are named"
        raise ModelpressError(f"{path}: {found}; name one a class in datasets.{raw.name}.split.labels")
    return images_NHW[..., None], classes_N.astype(np.int64)


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Return the uint8 array of a gzipped IDX file with that many axes."""
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ModelpressError(f"{path}: no such file; fetch the dataset again") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ModelpressError(f"{path}: not a gzip file ({error}); fetch the dataset again") from None
    start = 4 + 4 * axes
    shape = [int(size) for size in np.frombuffer(data[4:start], ">u4")]
    if data[:4] != bytes([0, 0, _BYTES, axes]) or len(data) != start + math.prod(shape):
        raise ModelpressError(f"{path}: not an IDX file of bytes with {axes} axes; fetch the dataset again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
