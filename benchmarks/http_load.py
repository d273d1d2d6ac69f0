"""Many clients at once: each has a connection of its own and asks again as soon as it is answered."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 120


@dataclass
class Load:
    """What came of it. latencies: seconds of each answered request."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Return requests a second, latencies in milliseconds, and what failed."""
        steps = statistics.quantiles(self.latencies, n=100) if len(self.latencies) > 1 else [0.0] * 99
        return {
            "requests_per_second": round(len(self.latencies) / self.seconds, 1),
            "p50_ms": round(steps[49] * 1000, 2),
            "p99_ms": round(steps[98] * 1000, 2),
            "failed": self.failed,
            "wrong": self.wrong,
        }


async def ask(
    url: str,
    question: Callable[[int], Any],
    connections: int,
    go_on: Callable[[int], bool],
    right: Callable[[int, Any], bool] = lambda number, answer: True,
) -> Load:
    """POST question(0), question(1), ... as JSON while go_on(requests begun); right(number, answer) judges each."""
    import aiohttp

    load, begun = Load(), 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal begun
        while go_on(begun):
            number, begun = begun, begun + 1
            started = time.perf_counter()
            try:
                async with session.post(url, json=question(number)) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, TimeoutError, ValueError):
                load.failed += 1
                continue
            load.latencies.append(time.perf_counter() - started)
            load.failed += response.status != 200
            load.wrong += response.status == 200 and not right(number, answer)

    started = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))
    load.seconds = time.perf_counter() - started
    return load
