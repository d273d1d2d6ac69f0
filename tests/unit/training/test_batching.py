"""Batches hold every row once and no more tokens than allowed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.training.batching import bucket

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 500), st.one_of(st.none(), st.integers(0, 100)))
def test_every_row_once_within_the_token_limit(rows: list[tuple[int, int]], tokens: int, seed: int | None) -> None:
    lengths = np.array(rows)
    batches = bucket(lengths, tokens, None if seed is None else np.random.default_rng(seed))
    assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        longest = max(rows[row][0] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= tokens


def test_epochs_differ_and_repeat_with_their_seed() -> None:
    lengths = np.stack([np.arange(500) % 20 + 1, np.arange(500) % 7 + 1], 1)
    first, again, second = (bucket(lengths, 64, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != second
