"""Inputs that arrive one by one are answered together: one call of the predictor for many requests.

A batch is one thread's share of all inputs that wait or run, so that no core is idle while another has all of them. It
starts as soon as so many wait as were a share while the last one ran: a lone client never waits, and many clients find
each other again. At the latest it starts `max_delay_ms` after its first input came. Where what waits is known to
compute in about the time a thread takes to wake, the event loop answers it itself; a lone request's at once, without
the queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.core.errors import ModelpressError
from deploy.server.quick import NOT_QUICK, Quick
from deploy.server.refusals import Refusal, queue_full, timed_out
from deploy.server.settings import Settings
from deploy.server.workers import Workers

log = logging.getLogger("modelpress.batching")


@dataclass(eq=False)
class _Waiting:
    input: Any
    request: object  # the same one of all inputs of a request
    arrived: float
    answer: asyncio.Future[Any] = field(repr=False)


class Batcher:
    """One model's queue. Lives on one event loop; `predict` runs on a worker, or there for `quick` inputs."""

    def __init__(
        self,
        name: str,
        predict: Callable[[list[Any]], list[Any]],
        workers: Workers,
        settings: Settings,
        on_batch: Callable[[int, float], None] = lambda size, waited: None,
        on_queue: Callable[[int], None] = lambda size: None,
        quick: Quick = NOT_QUICK,
    ) -> None:
        self._name, self._predict, self._workers, self._settings = name, predict, workers, settings
        self._on_batch = on_batch  # told the size of each batch and how long its first input waited, in seconds
        self._on_queue = on_queue  # told how many inputs wait, whenever that changes
        self._queue: deque[_Waiting] = deque()
        self._wanted = 1  # how many waiting inputs start a batch
        self._computing = 0  # inputs of the batches that run
        self._quick = quick
        self._lone = True  # no other request came in the same step of the event loop of late
        self._answered_now = False  # in this step of the event loop
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._task = asyncio.create_task(self._dispatch())

    def __len__(self) -> int:
        """Return how many inputs wait."""
        return len(self._queue)

    async def answer(self, inputs: Sequence[Any]) -> list[Any]:
        """Return an answer for each input.

        Raises:
            Refusal: 429 no room for them, 400 an input the predictor can't answer, 504 not in time.
        """
        if len(inputs) > self._settings.queue:
            raise Refusal(
                413, f"{self._name}: {len(inputs)} inputs at once, at most {self._settings.queue}; split them"
            )
        if len(self._queue) + len(inputs) > self._settings.queue:
            raise queue_full(self._name)
        loop = asyncio.get_running_loop()
        if self._answered_now:
            self._lone = False  # more clients than one: what they ask is answered together from here on
        elif self._may_answer_now(inputs):
            return self._answer_now(inputs, loop)
        request = object()
        waiting = [_Waiting(item, request, loop.time(), loop.create_future()) for item in inputs]
        self._queue.extend(waiting)
        self._on_queue(len(self._queue))
        self._some.set()
        if len(self._queue) >= self._wanted:
            self._enough.set()
        return await self._outcome(waiting)

    def _may_answer_now(self, inputs: Sequence[Any]) -> bool:
        alone = self._lone and not self._queue and not self._computing
        return alone and len(inputs) <= self._settings.max_batch and self._quick.fits(inputs)

    def _answer_now(self, inputs: Sequence[Any], loop: asyncio.AbstractEventLoop) -> list[Any]:
        self._answered_now = True
        loop.call_soon(self._end_step)
        self._on_batch(len(inputs), 0.0)
        return _checked(answer_all(self._predict, list(inputs)))

    def _end_step(self) -> None:
        self._answered_now = False

    async def _outcome(self, waiting: list[_Waiting]) -> list[Any]:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answers = [await item.answer for item in waiting]
        except TimeoutError:
            raise timed_out(self._name, self._settings.timeout_s) from None
        finally:  # also when the client has gone: what was not begun never will be
            for item in waiting:
                item.answer.cancel()
        return _checked(answers)

    async def close(self) -> None:
        """Answer all that waits, then end."""
        self._closed = True
        self._some.set()
        self._enough.set()
        await self._task
        await asyncio.gather(*self._running)

    async def _dispatch(self) -> None:
        while True:
            await self._some.wait()
            if len(self._queue) <= self._quick.together and self._quick.fits([item.input for item in self._queue]):
                self._answer_here()
                await asyncio.sleep(0)  # between two batches others have their turn
                continue
            await self._wait_for_more()
            await self._workers.take()  # while all are busy, others may still join
            batch = self._next_batch(self._share())
            if batch:
                self._computing += len(batch)
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                continue
            self._workers.give_back()
            if self._closed:
                return

    async def _wait_for_more(self) -> None:
        loop, delay = asyncio.get_running_loop(), self._settings.max_delay_ms / 1000
        while self._queue and len(self._queue) < self._wanted and not self._closed:
            left = self._queue[0].arrived + delay - loop.time()
            if left <= 0:
                return
            self._enough.clear()
            try:
                await asyncio.wait_for(self._enough.wait(), left)
            except TimeoutError:
                return

    def _answer_here(self) -> None:
        batch = self._next_batch(len(self._queue))
        self._wanted = 1
        self._lone = len({id(item.request) for item in batch}) <= 1
        if batch:
            waited = asyncio.get_running_loop().time() - batch[0].arrived
            self._settle(batch, waited, answer_all(self._predict, [item.input for item in batch]))

    def _next_batch(self, size: int) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = min(size, self._settings.max_batch)
        while self._queue and len(batch) < size:
            item = self._queue.popleft()
            if not item.answer.done():
                batch.append(item)
        self._on_queue(len(self._queue))
        if not self._queue and not self._closed:
            self._some.clear()
        return batch

    def _share(self) -> int:
        """Return how many of the inputs that wait or run are one thread's."""
        return math.ceil((len(self._queue) + self._computing) / self._settings.threads)

    async def _run(self, batch: list[_Waiting]) -> None:
        waited, share = asyncio.get_running_loop().time() - batch[0].arrived, self._share()
        try:
            answers = await self._workers.run(answer_all, self._predict, [item.input for item in batch])
        finally:
            self._workers.give_back()
            self._wanted = min(max(share, self._share()), self._settings.max_batch)
            self._computing -= len(batch)
        self._settle(batch, waited, answers)

    def _settle(self, batch: list[_Waiting], waited: float, answers: list[Any]) -> None:
        self._on_batch(len(batch), waited)
        for item, answer in zip(batch, answers, strict=True):
            if not item.answer.done():
                item.answer.set_result(answer)


@dataclass(frozen=True)
class _Failure:
    """Stands in the place of an answer the predictor could not give."""

    reason: str


def _checked(answers: list[Any]) -> list[Any]:
    for number, answer in enumerate(answers):
        if isinstance(answer, _Failure):
            raise Refusal(400, f"inputs[{number}]: {answer.reason}")
    return answers


def answer_all(predict: Callable[[list[Any]], list[Any]], inputs: list[Any]) -> list[Any]:
    """Return an answer for each input; where the batch fails, each gets its own try, so that one can't spoil all."""
    try:
        answers = predict(inputs)
        if len(answers) != len(inputs):
            raise ModelpressError(f"{len(answers)} answers to {len(inputs)} inputs")
        return list(answers)
    except Exception as error:
        if len(inputs) == 1:
            log.warning("an input failed", exc_info=error)
            known = isinstance(error, ModelpressError)  # written for who gave the input; other texts are not
            return [_Failure(str(error) if known else "the model can't answer it")]
    return [answer for item in inputs for answer in answer_all(predict, [item])]
