"""Runs of a model's bare graphs: tensors in, tensors out, on a worker, stopped when they take too long."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np

from deploy.server.loading import Model
from deploy.server.refusals import Refusal, queue_full, timed_out
from deploy.server.settings import Settings
from deploy.server.workers import Workers

LARGE = 256 * 1024  # bytes in; what a run on more needed is given back to the system, not kept for the next one
log = logging.getLogger("modelpress.graphs")


class GraphRunner:
    """The graphs of one version. A request is a batch already, so it runs alone."""

    def __init__(self, model: Model, workers: Workers, settings: Settings) -> None:
        self._model, self._workers, self._settings = model, workers, settings
        self._tasks: set[asyncio.Task[dict[str, np.ndarray]]] = set()

    async def run(self, graph: str, outputs: list[str], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the named outputs.

        Raises:
            Refusal: 429 too many wait, 400 the graph can't compute these tensors, 504 not in time.
        """
        from onnxruntime import RunOptions

        if len(self._tasks) >= self._settings.queue:
            raise queue_full(self._model.name)
        options = RunOptions()
        if sum(array.nbytes for array in inputs.values()) > LARGE:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        task = asyncio.create_task(self._compute(graph, outputs, inputs, options))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait({task}, timeout=self._settings.timeout_s)
        if not done:
            options.terminate = True  # ends the run at its next node and frees the thread
            task.add_done_callback(lambda ended: ended.exception())  # nobody waits for what becomes of it
            raise timed_out(self._model.name, self._settings.timeout_s)
        return task.result()

    async def _compute(self, graph: str, outputs: list[str], inputs: Any, options: Any) -> dict[str, np.ndarray]:
        await self._workers.take()
        try:
            session: Any = self._model.predictor.sessions[graph]
            values = await self._workers.run(session.run, outputs, inputs, options)
        except Exception as error:  # ONNX Runtime raises plain classes of its own, with paths of its build in them
            log.warning("a graph refused its tensors", extra={"fields": {
                "model": self._model.name, "version": self._model.version, "graph": graph, "reason": str(error)[:500],
            }})  # fmt: skip
            raise Refusal(400, f"{self._model.name}: the graph can't compute these values") from None
        finally:
            self._workers.give_back()
        return dict(zip(outputs, values, strict=True))

    async def close(self) -> None:
        """Wait for what runs."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
