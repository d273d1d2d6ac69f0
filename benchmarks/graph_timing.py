"""How long graphs take: they run by turns within each round, at one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def milliseconds_by_round(graphs: Mapping[str, Path], feeds: Mapping[str, np.ndarray], rounds: int) -> dict[str, list]:
    """Return each graph's median milliseconds a run, one figure a round; every other round goes backwards."""
    from components.inference.session import open_session

    sessions = {name: open_session(path, threads=1) for name, path in graphs.items()}
    runs = max(5, 400 // len(next(iter(feeds.values()))))
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(rounds + 1):
        for name in sorted(sessions, reverse=bool(number % 2)):
            times = []
            for _ in range(runs):
                started = time.perf_counter()
                sessions[name].run(None, dict(feeds))
                times.append(time.perf_counter() - started)
            if number:  # the first round warms up
                found[name].append(1e3 * statistics.median(times))
    return found


def compare(
    graphs: Mapping[str, Path], reference: str, feeds: Mapping[str, np.ndarray], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return each graph's milliseconds a run and how much faster it is than the reference; medians over rounds."""
    times = milliseconds_by_round(graphs, feeds, rounds)
    found = {}
    for name, values in times.items():
        ratios = [slow / fast for slow, fast in zip(times[reference], values, strict=True)]
        found[name] = round(statistics.median(values), 4), round(statistics.median(ratios), 3)
    return found
