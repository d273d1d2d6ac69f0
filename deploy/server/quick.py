"""Which inputs a model answers in about the time a thread takes to wake: those the event loop may answer itself.

Found out when a model is loaded, on its golden examples, so that no request can make a slow model look quick.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from components.inference import Predictor
from deploy.server.kinds import DATA_URL, kind_of

LIMIT_S = 0.001  # of the event loop's time, for all inputs answered together
TRIES = 3


@dataclass(frozen=True)
class Quick:
    """size: bytes of JSON an input may have. together: how many inputs at a time; 0: the model is not quick."""

    size: int = 0
    together: int = 0

    def fits(self, inputs: Sequence[Any]) -> bool:
        """Return whether the event loop may answer these."""
        return 0 < len(inputs) <= self.together and all(len(orjson.dumps(item)) <= self.size for item in inputs)


NOT_QUICK = Quick()


def measure_quick(predictor: Predictor, inputs: Sequence[Any]) -> Quick:
    """Time a warm predictor on its golden inputs, one by one and together, by the clock (waiting counts too).

    Pictures and sounds are never quick: how long a data URL takes to decode, its length does not tell.
    """
    if any(kind_of(item) == DATA_URL for item in inputs):
        return NOT_QUICK
    if max(_seconds(predictor, [item]) for item in inputs) > LIMIT_S:
        return NOT_QUICK
    each = _seconds(predictor, inputs) / len(inputs)
    return Quick(max(len(orjson.dumps(item)) for item in inputs), max(1, int(LIMIT_S / each)))


def _seconds(predictor: Predictor, inputs: Sequence[Any]) -> float:
    """Return the quickest of a few tries: what the machine does besides makes none quicker."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        predictor.predict(list(inputs))
        times.append(time.perf_counter() - began)
    return min(times)
