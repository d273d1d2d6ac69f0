"""Batches of nearly equal cost: sequences bucketed by length, a fixed number of target tokens each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BucketBatches(Sampler[list[int]]):
    """Batch sampler: rows of like target length together, sorted by source length, in an order of the epoch's own.

    lengths: (examples, 2) int, target length first. tokens_per_batch: target tokens, padding counted.
    """

    def __init__(self, lengths: np.ndarray, tokens_per_batch: int, seed: int | None) -> None:
        self.batches = bucket(lengths, tokens_per_batch, None if seed is None else np.random.default_rng(seed))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def bucket(lengths: np.ndarray, tokens_per_batch: int, rng: np.random.Generator | None) -> list[list[int]]:
    """Return every row once, in batches of at most tokens_per_batch padded target tokens (or one longer row)."""
    target, source = lengths[:, 0], lengths[:, 1].astype(float)
    if rng is not None:
        source = source + rng.random(len(source))  # rows of equal lengths meet others in each epoch
    order = np.lexsort((source, target))
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, tokens_per_batch // int(target[order[start]]))
        longest = int(target[order[start:stop]].max())  # the rows are sorted, so this is the last one's
        stop = start + max(1, tokens_per_batch // longest)
        batches.append(order[start:stop].tolist())
        start = stop
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
