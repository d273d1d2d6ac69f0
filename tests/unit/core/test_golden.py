"""Answers that count as the same: JSON values and arrays, numbers within a twentieth."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.golden import equal_answers


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (np.array([[1.0, 2.0]]), np.array([[1.01, 2.0]]), True),
        (np.array([[1.0, 2.0]]), np.array([[1.2, 2.0]]), False),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1, 2]), np.array([[1, 2]]), False),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), False),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), True),
        ({"a": [1.0, "x"]}, {"a": [1.02, "x"]}, True),
        ({"a": [1.0, "x"]}, {"a": [1.0, "y"]}, False),
        (41, 40, False),
        (40, 40.5, True),  # as JSON a fraction may have lost its point
        (True, 0.97, False),
        (np.array([5000, 17]), np.array([5001, 17]), False),
    ],
)
def test_answers_are_compared_by_value(left: object, right: object, same: bool) -> None:
    assert equal_answers(left, right) is same
