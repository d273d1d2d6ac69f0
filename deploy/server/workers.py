"""The threads that compute. The event loop hands the work over and goes on, but for what `quick` lets it do itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Workers:
    """A fixed number of threads, handed out in the order they are asked for: take one, run on it, give it back."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answers")
        self._free = asyncio.Semaphore(threads)

    async def take(self) -> None:
        """Wait for a free thread and keep it."""
        await self._free.acquire()

    async def run(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Return the call's result; only for who took a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    def give_back(self) -> None:
        """Let the next one have the thread."""
        self._free.release()

    def stop(self) -> None:
        """End the threads; nothing may be running any more."""
        self._pool.shutdown(wait=True)
