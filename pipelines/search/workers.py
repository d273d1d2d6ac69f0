"""The processes that train, export and score a search's candidates; they end with the search, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.core.errors import ModelpressError
from components.core.threads import cores

if TYPE_CHECKING:
    from pipelines.search.space import Candidate, Space

T = TypeVar("T")


class WorkerKilled(ModelpressError):
    """A worker process is gone: no candidate's fault."""


class Refused(ModelpressError):
    """A candidate that cannot be, or whose graph strays from its model."""


class Workers:
    """A pool whose processes import torch once, each with its share of the cores; safe to call from several threads.

    log: a folder for what they print, a file each.
    """

    def __init__(self, jobs: int, log: Path) -> None:
        log.mkdir(parents=True, exist_ok=True)
        share = os.environ.get("MODELPRESS_THREADS") if jobs == 1 else str(max(1, cores() // jobs))
        self._log = log
        self._pool = ProcessPoolExecutor(
            jobs,
            # a fork would copy the locks of the threads that wait for trials
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(share, str(log)),
        )

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return a function's result from one of the processes, or raise its error.

        Raises:
            ModelpressError: a process was killed.
        """
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            reason = f"a worker process was killed (out of memory?); its last words are in {self._log}"
            raise WorkerKilled(f"{reason}; the same command goes on from here") from None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """End the processes; after an error or an interruption also what they are at."""
        if error is not None:
            for process in list((self._pool._processes or {}).values()):  # its own shutdown waits for what runs
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def ask_space(recipe: str) -> tuple[Space, str]:
    """Return a recipe's space and a digest of all that its trials depend on; imports torch, so a worker is asked."""
    from pipelines.search.trial import inputs_of, space_of

    return space_of(recipe), inputs_of(recipe)


def ask_row(recipe: str, candidate: Candidate, effort: str, work: Path) -> dict[str, Any]:
    """Return a candidate's row, or {"refused": why}: errors with a list of problems do not survive the way back."""
    from pipelines.search.trial import evaluate

    try:
        return evaluate(recipe, candidate, effort, work)  # type: ignore[arg-type]
    except ModelpressError as error:
        return {"refused": str(error)}


def _begin(threads: str | None, log: str) -> None:
    """Set up a worker: threads before torch reads them, output into its log, and an end when the search is gone."""
    if threads:
        os.environ.update(MODELPRESS_THREADS=threads, OMP_NUM_THREADS=threads)
    output = os.open(Path(log) / f"worker-{os.getpid()}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    search = multiprocessing.parent_process()
    assert search is not None

    def end_with_the_search() -> None:
        search.join()
        os._exit(1)

    threading.Thread(target=end_with_the_search, daemon=True).start()
