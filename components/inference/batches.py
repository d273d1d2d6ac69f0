"""Rows of unlike lengths in batches that hold little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def rows_of_like_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the rows' numbers in batches of at most `size`, the longest rows first; equal ones stay in their order."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """Return rows of ids as one array int64 (B, longest), `value` behind the shorter ones."""
    array_BL = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for row_L, ids in zip(array_BL, rows, strict=True):
        row_L[: len(ids)] = ids
    return array_BL
