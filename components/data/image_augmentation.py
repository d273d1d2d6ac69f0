"""Random views of a batch of pictures: shifted and flipped, one gather for the whole batch."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from components.core.config import Config


class Augmentation(Config):
    """Which views of a picture show the same thing.

    shift: largest move along each axis in points; what comes in at an edge mirrors what lies there.
    flip: "horizontal" for pictures with an up and a down, "dihedral" for all eight of a picture from above.
    """

    shift: int = Field(default=0, ge=0)
    flip: Literal["none", "horizontal", "dihedral"] = "none"


def augment(image_BHWC: Tensor, config: Augmentation) -> Tensor:
    """Return a random view of each picture, drawn from torch's generator.

    Raises:
        ValueError: pictures that are not square, which "dihedral" would turn on their side.
    """
    count, height, width, _ = image_BHWC.shape
    if config.flip == "dihedral":
        if height != width:
            raise ValueError(f"augment.flip: dihedral needs square pictures, these are {width} x {height}")
        turned_B = torch.rand(count, device=image_BHWC.device) < 0.5
        image_BHWC = torch.where(turned_B[:, None, None, None], image_BHWC.transpose(1, 2), image_BHWC)
    rows_BH = _points(count, height, config.shift, config.flip == "dihedral", image_BHWC.device)
    columns_BW = _points(count, width, config.shift, config.flip != "none", image_BHWC.device)
    examples_B = torch.arange(count, device=image_BHWC.device)
    return image_BHWC[examples_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]


def _points(count: int, size: int, shift: int, flip: bool, device: torch.device) -> Tensor:
    """Return which rows (or columns) of its picture each view shows, int64 (count, size)."""
    moves_B1 = torch.randint(-shift, shift + 1, (count, 1), device=device)
    points_BS = torch.arange(size, device=device) + moves_B1
    if flip:
        flipped_B1 = torch.rand(count, 1, device=device) < 0.5
        points_BS = torch.where(flipped_B1, size - 1 - points_BS, points_BS)
    points_BS = points_BS.abs()  # mirrored at the first point, then at the last
    return (size - 1) - ((size - 1) - points_BS).abs()
