"""The range of values an activation takes, found in one pass and in memory that does not grow with what is seen.

Methods: smallest and largest value; percentiles; least relative entropy between values and their rounded form (Migacz,
8-bit inference with TensorRT, 2017, here for a range that need not be symmetric).
"""

from __future__ import annotations

import math

import numpy as np

from components.core.params import Calibration

BINS = 1 << 14  # over [-limit, limit]
LEVELS = 256  # values of 8 bits
SMALLEST_EXPONENT = -100  # smaller values are as good as zero
SHRINKAGES = np.linspace(1.0, 0.2, 65)  # ranges the entropy method tries, in parts of the full one

Range = tuple[float, float]


class StreamingHistogram:
    """Counts of values in bins of equal width between two powers of two, which double when a value lies outside.

    Pairs of bins then become one, so the counts are those of a histogram that had known all values from the start,
    whatever order they came in.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.exponent: int | None = None  # of the limit; None while nothing but zeros came
        self.low, self.high = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        """Count finite float values of any shape.

        Raises:
            ValueError: a value is infinite or not a number.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("an activation is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach(max(-low, high))
        bins = np.floor(values.ravel() * np.float64(BINS / 2 / self.limit)).astype(np.int32) + BINS // 2
        self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    @property
    def limit(self) -> float:
        """The histogram's end: a power of two."""
        return math.ldexp(1.0, self.exponent or 0)

    @property
    def edges(self) -> np.ndarray:
        """The bins' borders, float64 (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    def _reach(self, largest: float) -> None:
        if largest == 0.0:
            return
        needed = max(math.frexp(largest)[1], SMALLEST_EXPONENT)  # the power of two above it
        if self.exponent is None:
            zeros = self.counts.sum()  # whatever came was zero
            self.counts[:] = 0
            self.counts[BINS // 2] = zeros
            self.exponent = needed
        while self.exponent < needed:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts[:] = 0
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.exponent += 1


def find_range(seen: StreamingHistogram, calibration: Calibration) -> Range:
    """Return the smallest and largest value to represent, by the configured method; values beyond them are clipped.

    Raises:
        ValueError: no value was seen.
    """
    if seen.low > seen.high:
        raise ValueError("no value was seen")
    match calibration.method:
        case "percentile":
            return _percentiles(seen, calibration.percentile)
        case "entropy":
            return _least_entropy(seen)
    return seen.low, seen.high


def _percentiles(seen: StreamingHistogram, percentile: float) -> Range:
    """Return the range that leaves at most 100 - percentile per cent of the values out on each side."""
    below = np.cumsum(seen.counts)
    outside = below[-1] * (1 - percentile / 100)
    edges = seen.edges
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, below[-1] - outside, side="left"))
    return max(seen.low, float(edges[first])), min(seen.high, float(edges[last + 1]))


def _least_entropy(seen: StreamingHistogram) -> Range:
    edges = seen.edges
    first = int(np.searchsorted(edges, seen.low, side="right")) - 1
    last = max(first + 1, int(np.searchsorted(edges, seen.high, side="left")))
    counts, centres = seen.counts.copy(), (edges[:-1] + edges[1:]) / 2
    counts[BINS // 2] = 0  # a ReLU's zeros are exact in any range; spread over their level they would decide alone
    counts, centres = counts[first:last], centres[first:last]
    if not counts.any():
        return seen.low, seen.high
    losses = [_relative_entropy(counts, centres, seen.low * part, seen.high * part) for part in SHRINKAGES]
    best = float(SHRINKAGES[int(np.argmin(losses))])
    return seen.low * best, seen.high * best


def _relative_entropy(counts: np.ndarray, centres: np.ndarray, low: float, high: float) -> float:
    """Return KL(values clipped to the range || the same rounded to 8 bits), in nats.

    What is clipped is counted in the outermost bins of the first distribution and missing in the second.
    """
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return math.inf
    kept = counts[inside].astype(np.float64)
    clipped = kept.copy()
    clipped[0] += counts[centres < low].sum()
    clipped[-1] += counts[centres > high].sum()
    level = np.minimum((np.arange(len(kept)) * LEVELS) // len(kept), LEVELS - 1)
    filled = kept > 0
    mass = np.bincount(level, kept, LEVELS)
    share = mass / np.maximum(np.bincount(level, filled, LEVELS), 1)
    rounded = np.where(filled, share[level], 0.0)
    p, q = clipped / clipped.sum(), rounded / max(rounded.sum(), 1.0)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
