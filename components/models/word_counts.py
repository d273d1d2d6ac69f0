"""Vectors from counts: how much more often two words meet than chance would have it, then the largest singular vectors.

Positive pointwise mutual information (Church and Hanks 1990) with the settings that make it a match for word2vec
(Levy, Goldberg and Dagan 2015): neighbours weighted by their distance as reduced windows weigh them, context shares to
the power of 0.75, singular values to the power of 0.5. It has a closed form, so there is nothing to train.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SMOOTHING = 0.75  # of contexts: rare ones would otherwise look too telling
SINGULAR_POWER = 0.5


class PpmiSvd(nn.Module):
    """A table of vectors (V, D) that `solve` fills."""

    def __init__(self, words: int, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.table = nn.Parameter(torch.zeros(words, width))

    def vectors(self) -> Tensor:
        """Return the words' vectors (V, D)."""
        return self.table

    def solve(self, train: Any, seed: int) -> dict[str, float]:
        """Count the neighbours in `train.text` (int32 (N, L), below 0: no word) and take the factors of their PPMI.

        seed: of the vector the iteration starts from. Returns `train_loss`, the share of the matrix's squares that the
        factors leave out.
        """
        import scipy.sparse.linalg

        words, width = self.table.shape
        print("counting neighbours", flush=True)
        matrix_VV = ppmi(count_neighbours(train.text, words, self.window))
        print(f"{matrix_VV.nnz:,} pairs of words; the {width} largest singular vectors", flush=True)
        start_V = np.random.default_rng(seed).standard_normal(words)
        left_VD, values_D, _ = scipy.sparse.linalg.svds(matrix_VV, k=width, v0=start_V)
        left_VD = left_VD * np.sign(left_VD[np.abs(left_VD).argmax(0), np.arange(width)])  # a sign is free: choose it
        with torch.no_grad():
            self.table.copy_(torch.from_numpy((left_VD * values_D**SINGULAR_POWER).astype(np.float32)))
        return {"train_loss": round(1 - float((values_D**2).sum() / matrix_VV.power(2).sum()), 6)}


def count_neighbours(text_NL: np.ndarray, words: int, window: int) -> Any:
    """Return a sparse symmetric (V, V): how often two words are neighbours; one d words away counts (w + 1 - d) / w."""
    from scipy.sparse import coo_array, csr_array

    counts_VV = csr_array((words, words))
    for distance in range(1, window + 1):
        first, second = text_NL[:, :-distance].ravel(), text_NL[:, distance:].ravel()
        there = (first >= 0) & (second >= 0)
        weight = np.full(int(there.sum()), (window + 1 - distance) / window)
        counts_VV = counts_VV + coo_array((weight, (first[there], second[there])), (words, words)).tocsr()
    return counts_VV + counts_VV.T


def ppmi(counts_VV: Any) -> Any:
    """Return max(0, log(p(a, b) / (p(a) p(b)))) of sparse counts, contexts b smoothed; sparse as well."""
    from scipy.sparse import coo_array

    found = coo_array(counts_VV)
    total_V = np.asarray(counts_VV.sum(1)).ravel()
    share_V = total_V / total_V.sum()
    smoothed_V = share_V**SMOOTHING / (share_V**SMOOTHING).sum()
    a, b = found.coords
    value = np.log(found.data / found.data.sum()) - np.log(share_V[a] * smoothed_V[b])
    keep = value > 0
    return coo_array((value[keep], (a[keep], b[keep])), counts_VV.shape).tocsr()
