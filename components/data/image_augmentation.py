"""Random views of a batch of pictures: shifted and flipped by one gather for the whole batch, partly covered."""

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
    cutout: side in points of a square with its centre anywhere that shows the picture's mean (DeVries and Taylor 2017).
    """

    shift: int = Field(default=0, ge=0)
    flip: Literal["none", "horizontal", "dihedral"] = "none"
    cutout: int = Field(default=0, ge=0)


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
    view_BHWC = image_BHWC[examples_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
    return _cover(view_BHWC, config.cutout) if config.cutout else view_BHWC


def _cover(view_BHWC: Tensor, side: int) -> Tensor:
    """Cover a square of each view, as much of it as lies inside."""
    count, height, width, _ = view_BHWC.shape
    rows_BH, columns_BW = (_within(count, size, side, view_BHWC.device) for size in (height, width))
    mean_B11C = view_BHWC.float().mean((1, 2), keepdim=True).to(view_BHWC.dtype)
    return torch.where((rows_BH[:, :, None] & columns_BW[:, None, :])[..., None], mean_B11C, view_BHWC)


def _within(count: int, size: int, side: int, device: torch.device) -> Tensor:
    """Return which rows (or columns) of each view lie within `side` points around a random one, bool (count, size)."""
    first_B1 = torch.randint(0, size, (count, 1), device=device) - side // 2
    behind_BS = torch.arange(size, device=device) - first_B1
    return (behind_BS >= 0) & (behind_BS < side)


def _points(count: int, size: int, shift: int, flip: bool, device: torch.device) -> Tensor:
    """Return which rows (or columns) of its picture each view shows, int64 (count, size)."""
    moves_B1 = torch.randint(-shift, shift + 1, (count, 1), device=device)
    points_BS = torch.arange(size, device=device) + moves_B1
    if flip:
        flipped_B1 = torch.rand(count, 1, device=device) < 0.5
        points_BS = torch.where(flipped_B1, size - 1 - points_BS, points_BS)
    points_BS = points_BS.abs()  # mirrored at the first point, then at the last
    return (size - 1) - ((size - 1) - points_BS).abs()
