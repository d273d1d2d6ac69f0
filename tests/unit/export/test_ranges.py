"""Ranges of activations: the same in any order, in memory that does not grow, and where the values are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.core.params import Calibration
from components.export.ranges import BINS, StreamingHistogram, find_range

VALUES = arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def seen(*parts: np.ndarray) -> StreamingHistogram:
    histogram = StreamingHistogram()
    for part in parts:
        histogram.add(part)
    return histogram


@settings(max_examples=50, deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_counts_are_the_same_when_values_come_in_another_order_and_in_parts(values, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = values.tolist()
    random.shuffle(shuffled)
    cut = random.randint(0, len(shuffled))
    parts = [np.array(shuffled[:cut], np.float32), np.array(shuffled[cut:], np.float32)]
    whole, pieces = seen(values), seen(*parts)
    assert np.array_equal(whole.counts, pieces.counts)
    assert whole.limit == pieces.limit
    assert whole.counts.sum() == len(values)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.floats(90, 100))
def test_percentiles_leave_out_no_more_than_their_share(values: np.ndarray, percentile: float) -> None:
    histogram = seen(values)
    low, high = find_range(histogram, Calibration(method="percentile", percentile=percentile))
    width = 2 * histogram.limit / BINS
    allowed = len(values) * (1 - percentile / 100) + 1e-6
    assert (values < low - width).sum() <= allowed
    assert (values > high + width).sum() <= allowed
    assert values.min() <= low <= high <= values.max() or low == high


def test_min_max_is_exact() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert find_range(seen(values[:10], values[10:]), Calibration(method="min_max")) == (values.min(), values.max())


def test_percentile_cuts_single_outliers_off() -> None:
    values = np.random.default_rng(0).random(100_000, np.float32)
    low, high = find_range(seen(values, np.array([1000.0], np.float32)), Calibration(percentile=99.99))
    assert low == pytest.approx(0, abs=0.1)
    assert 0.9 < high < 1.2


def test_entropy_cuts_a_long_thin_tail_and_keeps_a_full_range() -> None:
    rng = np.random.default_rng(0)
    tail = np.concatenate([rng.random(100_000) * 10, [80.0, 90.0, 100.0]]).astype(np.float32)
    assert find_range(seen(tail), Calibration(method="entropy"))[1] < 40
    assert find_range(seen(tail[:-3]), Calibration(method="entropy"))[1] > 9


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_entropy_keeps_what_a_relu_gives_however_much_of_it_is_zero(shift: float) -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=100_000) - shift, 0).astype(np.float32)
    low, high = find_range(seen(values), Calibration(method="entropy"))
    assert low == 0
    step = (high - low) / 255
    error = ((np.clip(np.rint(values / step), 0, 255) * step - values) ** 2).mean()
    full = ((np.rint(values / (values.max() / 255)) * (values.max() / 255) - values) ** 2).mean()
    assert error < 2 * full


def test_a_range_of_zeros_is_found_when_a_layer_is_dead() -> None:
    zeros = np.zeros(100, np.float32)
    for method in ("min_max", "percentile", "entropy"):
        low, high = find_range(seen(zeros, zeros), Calibration(method=method))
        assert -1e-3 < low <= 0 <= high < 1e-3
    late = seen(zeros, np.array([2.0, 3.0], np.float32))
    assert late.counts[BINS // 2] == 100


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        seen(np.array([1.0, np.nan], np.float32))
