"""Batches of like length hold every row once; padding stands behind."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.inference.batches import padded, rows_of_like_length


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 7))
def test_every_row_is_in_one_batch_and_none_is_longer_than_one_before(lengths: list[int], size: int) -> None:
    batches = list(rows_of_like_length(lengths, size))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6))
def test_padded_rows_hold_their_ids_and_the_value_behind(rows: list[list[int]]) -> None:
    array = padded(rows, -1)
    assert array.dtype == np.int64
    assert array.shape == (len(rows), max(map(len, rows)))
    assert [[number for number in row if number >= 0] for row in array.tolist()] == rows
