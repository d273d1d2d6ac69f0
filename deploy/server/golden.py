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
from components.core.tolerance import tolerance_for
from components.inference import Predictor

DATA_URL = "a data URL (data:TYPE;base64,...)"
_KINDS = ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
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


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if isinstance(value, str) and value.startswith("data:"):
        return DATA_URL
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")


def check_golden(predictor: Predictor, examples: Sequence[Example], precision: str, where: str) -> None:
    """Answer all examples at once, as packaging did.

    Raises:
        ModelpressError: fewer answers are the same than the precision allows.
    """
    answers = predictor.predict([example.input for example in examples])
    same = sum(equal_answers(got, example.output) for got, example in zip(answers, examples, strict=True))
    least = tolerance_for(precision, {}, where).agreement
    if same < least * len(examples):
        raise ModelpressError(
            f"{where}: only {same} of {len(examples)} golden examples get the answer they had when the bundle was "
            f"packaged ({least:.0%} must); it is damaged or made for another runtime"
        )


def equal_answers(left: Any, right: Any) -> bool:
    """Return whether two answers are the same JSON value, or two arrays the same; numbers may differ by a twentieth."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.shape == right.shape and _equal_arrays(left, right)
    if hasattr(left, "tolist"):
        left = left.tolist()
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal_answers(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(equal_answers(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float | int) and isinstance(right, float | int):
        return math.isclose(left, right, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(left == right)


def _equal_arrays(left: np.ndarray, right: np.ndarray) -> bool:
    if np.issubdtype(left.dtype, np.number) and np.issubdtype(right.dtype, np.number):
        return bool(np.allclose(left, right, rtol=CLOSE, atol=CLOSE, equal_nan=True))
    return bool(np.array_equal(left, right))
