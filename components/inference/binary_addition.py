"""Two numbers in, their sum out: to bits, lowest first, through a graph that adds bit by bit, and back."""

from __future__ import annotations

import re

import numpy as np

from components.core.errors import ModelpressError
from components.inference.predictor import Predictor

LEAST_BITS = 8  # shorter sums are padded to these
MOST_BITS = 1024
BATCH = 1024


class AdditionPredictor(Predictor):
    """The graph "add": `bits` uint8 (B, T, 2), lowest first -> `sum` int64 (B, T), `probability` float32 (B, T)."""

    unit = "sums"

    def predict(self, inputs: list[str]) -> list[str]:
        """Return the sum of each "a + b", both whole numbers from 0, as text."""
        pairs = [_numbers(text) for text in inputs]
        sums: list[str] = []
        for start in range(0, len(pairs), BATCH):
            (sum_BT,) = self.sessions["add"].run(["sum"], {"bits": bits_of(pairs[start : start + BATCH])})
            sums += [str(number_of(row)) for row in sum_BT.astype(np.uint8)]
        return sums

    def count_units(self, answers: list[str]) -> int:
        """Return the number of sums."""
        return len(answers)


def bits_of(pairs: list[tuple[int, int]], length: int = 0) -> np.ndarray:
    """Return the bits of both numbers of each pair, uint8 (B, T, 2), lowest first.

    length: T; as many as the longest sum needs where it is 0.
    """
    length = length or max(LEAST_BITS, *(max(pair).bit_length() + 1 for pair in pairs))
    flat = b"".join(number.to_bytes((length + 7) // 8, "little") for pair in pairs for number in pair)
    bytes_BN8 = np.frombuffer(flat, np.uint8).reshape(len(pairs), 2, -1)
    return np.ascontiguousarray(np.unpackbits(bytes_BN8, axis=2, bitorder="little")[:, :, :length].transpose(0, 2, 1))


def number_of(bits_T: np.ndarray) -> int:
    """Return the number whose bits these are, lowest first."""
    return int.from_bytes(np.packbits(bits_T, bitorder="little").tobytes(), "little")


def _numbers(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,308})\s*\+\s*(\d{1,308})\s*", text, re.ASCII)
    if not match:
        raise ModelpressError(f"{text!r}: not a sum; give two whole numbers, e.g. '37 + 58'")
    first, second = int(match[1]), int(match[2])
    if max(first, second).bit_length() >= MOST_BITS:
        raise ModelpressError(f"{text[:40]!r}...: give numbers below 2 ** {MOST_BITS - 1}")
    return first, second


PREDICTOR = AdditionPredictor
