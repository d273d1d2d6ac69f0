"""What counts alone can guess: how often words occur (unigram), and beside which neighbours (bigram).

Of a word w between the neighbours l and r, both independent of each other given w, Bayes says
P(w | l, r) ~ P(w | l) P(w | r) / P(w). Each P(w | neighbour) is smoothed by Witten and Bell's rule (1991): the more
different words a neighbour has had, the more is left to P(w).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class _Beside:
    """What stands on one side of neighbour n: words and counts from starts[n] up to starts[n + 1]."""

    starts: np.ndarray
    word: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, neighbour_n: np.ndarray, word_n: np.ndarray, vocabulary: int) -> _Beside:
        key, count = np.unique(neighbour_n.astype(np.int64) * vocabulary + word_n, return_counts=True)
        return cls(np.searchsorted(key, np.arange(vocabulary + 1) * vocabulary), key % vocabulary, count)

    def lift(self, neighbour: int, unigram_V: np.ndarray) -> np.ndarray | float:
        """Return P(w | neighbour) / P(w) of each word w: by how much the neighbour makes it likelier."""
        found = slice(self.starts[neighbour], self.starts[neighbour + 1])
        word_n, count_n = self.word[found], self.count[found]
        if not len(word_n):
            return 1.0
        total = count_n.sum() + len(word_n)
        lift_V = np.full(len(unigram_V), len(word_n) / total)
        lift_V[word_n] += count_n / (total * unigram_V[word_n])
        return lift_V


class NeighbourCounts:
    """Counts of the words of some texts.

    texts: ids int (n,) each, below `vocabulary`; those below `first_word` are never guessed but may be neighbours.
    """

    def __init__(self, texts: Sequence[np.ndarray], vocabulary: int, first_word: int) -> None:
        counts_V = np.bincount(np.concatenate(texts), minlength=vocabulary).astype(float)
        counts_V[:first_word] = 0
        self.unigram_V = counts_V / counts_V.sum()
        left, right = (np.concatenate([text[cut] for text in texts]) for cut in (slice(None, -1), slice(1, None)))
        self._after = _Beside.of(left[right >= first_word], right[right >= first_word], vocabulary)
        self._before = _Beside.of(right[left >= first_word], left[left >= first_word], vocabulary)

    def between(self, left: int | None, right: int | None) -> np.ndarray:
        """Return P(w | left, right) of each word w, float64 (V,); None is a neighbour that isn't there or not known."""
        probability_V: np.ndarray = self.unigram_V.copy()
        if left is not None:
            probability_V *= self._after.lift(left, self.unigram_V)
        if right is not None:
            probability_V *= self._before.lift(right, self.unigram_V)
        probability_V /= probability_V.sum()
        return probability_V
