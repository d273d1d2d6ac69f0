"""What a trial's graph would take on a quiet machine: timed beside the teacher's, which was timed before.

While other trials train, all timings are long; how often faster than the teacher's graph a trial's is stays the same.
The figures a search ends with are not these: its finalists are timed together when nothing else runs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from pipelines.search.timing import time_bundles

REPEATS = 3


class Clock:
    """Estimates the median latency at batch 1, one timing at a time.

    references: the teacher's fp32 bundle by effort. An untrained translator seldom ends a sentence, so it is compared
    with an untrained teacher, unit of work by unit of work.
    """

    def __init__(self, references: Mapping[str, str]) -> None:
        self._references = dict(references)
        self._lock = threading.Lock()
        quiet = time_bundles({"teacher": self._references["full"]}, REPEATS)["variants"]["teacher"]
        self.teacher_p50 = float(quiet["latency_ms"]["batch_1"]["p50"])

    def estimate(self, row: Mapping[str, Any], effort: str) -> float | None:
        """Return milliseconds, or None where the untrained graph does no work that could be counted."""
        reference = self._references.get(effort, self._references["full"])
        with self._lock:
            timed = time_bundles({"teacher": reference, "trial": row["bundle"]}, REPEATS)["variants"]
        speed = {name: float(found["throughput"]["batch_1"]) for name, found in timed.items()}
        return self.teacher_p50 * speed["teacher"] / speed["trial"] if all(speed.values()) else None
