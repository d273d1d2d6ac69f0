"""A bundle against its own golden examples: the answers it gave when it was packaged, asked for again here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.core.files import read_json

GOLDEN = "golden.json"
CLOSE = 0.05  # of numbers in an answer, relative or absolute: another processor rounds int8 differently


@dataclass(frozen=True)
class Example:
    """An input and the answer the bundle gave to it; both are JSON values."""

    input: Any
    output: Any


def read_examples(folder: Path) -> tuple[Example, ...]:
    """Return a bundle's golden examples.

    Raises:
        ModelpressError: it has none.
    """
    raw = read_json(folder / GOLDEN)
    try:
        examples = tuple(Example(item["input"], item["output"]) for item in raw["examples"])
    except (TypeError, KeyError):
        raise ModelpressError(f"{folder / GOLDEN}: not a list of golden examples; package the variant again") from None
    if not examples:
        raise ModelpressError(f"{folder / GOLDEN}: holds no example; package the variant again")
    return examples


def count_same(answers: Sequence[Any], examples: Sequence[Example]) -> int:
    """Return how many answers to the examples' inputs are those the bundle gave when it was packaged."""
    return sum(equal_answers(got, example.output) for got, example in zip(answers, examples, strict=True))


def equal_answers(left: Any, right: Any) -> bool:
    """Return whether two answers are the same JSON value, or two arrays the same.

    Fractions may differ by a twentieth; whole numbers, which stand for classes and words, may not.
    """
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.shape == right.shape and _equal_arrays(left, right)
    if hasattr(left, "tolist"):
        left = left.tolist()
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal_answers(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(equal_answers(a, b) for a, b in zip(left, right, strict=True))
    if _are_numbers(left, right) and (isinstance(left, float) or isinstance(right, float)):
        return math.isclose(left, right, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(left == right)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, float | int) and not isinstance(value, bool) for value in values)


def _equal_arrays(left: np.ndarray, right: np.ndarray) -> bool:
    if np.issubdtype(left.dtype, np.floating) and np.issubdtype(right.dtype, np.floating):
        return bool(np.allclose(left, right, rtol=CLOSE, atol=CLOSE, equal_nan=True))
    return bool(np.array_equal(left, right))
