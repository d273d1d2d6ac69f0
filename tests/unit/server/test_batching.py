"""Inputs answered together, within stated bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from components.core.errors import ModelpressError
from deploy.server.batching import Batcher
from deploy.server.quick import NOT_QUICK, Quick
from deploy.server.refusals import Refusal
from deploy.server.settings import Settings
from deploy.server.workers import Workers


class Doubling:
    """A predictor that notes its batches; "bad" fails it, and a closed gate holds it."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: list[Any]) -> list[Any]:
        self.gate.wait(10)
        self.batches.append(inputs)
        if "bad" in inputs:
            raise ModelpressError("'bad' is not a number") if inputs[0] != "worse" else RuntimeError("/secret/path")
        return [2 * item for item in inputs]


def run(
    test: Callable[[Batcher, Doubling], Any],
    doubling: Doubling | None = None,
    quick: Quick = NOT_QUICK,
    **settings: Any,
) -> Doubling:
    doubling = doubling or Doubling()

    async def body() -> None:
        chosen = Settings(**{"timeout_s": 5.0, **settings})
        workers = Workers(chosen.threads)
        batcher = Batcher("toy", doubling, workers, chosen, quick=quick)
        try:
            await test(batcher, doubling)
        finally:
            doubling.gate.set()
            await batcher.close()
            workers.stop()

    asyncio.run(body())
    return doubling


def test_requests_that_wait_while_a_batch_runs_are_answered_together_in_order() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        doubling.gate.clear()
        first = asyncio.create_task(batcher.answer([1]))
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(batcher.answer([n, n + 1])) for n in (10, 20)]
        await asyncio.sleep(0.1)
        doubling.gate.set()
        assert await first == [2]
        assert [await other for other in others] == [[20, 22], [40, 42]]

    assert run(test).batches == [[1], [10, 11, 20, 21]]


class Stepping(Doubling):
    """Notes a batch when it begins, and ends it when it is allowed to: how busy the machine is changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)

    def __call__(self, inputs: list[Any]) -> list[Any]:
        self.batches.append(inputs)
        self.allowed.acquire(timeout=10)
        return [2 * item for item in inputs]

    async def begun(self, count: int) -> None:
        while len(self.batches) < count:
            await asyncio.sleep(0.005)


def test_crowd_is_shared_evenly_among_threads_when_each_client_asks_again_at_once() -> None:
    stepping = Stepping()

    async def test(batcher: Batcher, _: Doubling) -> None:
        async def client(number: int) -> None:
            for _ in range(4):
                assert await batcher.answer([number]) == [2 * number]

        clients = asyncio.gather(*(client(number) for number in range(16)))
        for count in (2, 4, 6):  # both threads compute; then both may end
            await asyncio.wait_for(stepping.begun(count), 10)
            stepping.allowed.release(2)
        stepping.allowed.release(64)
        await clients

    sizes = [len(batch) for batch in run(test, stepping, threads=2, max_delay_ms=1000.0).batches]
    assert all(size in (7, 8, 9) for size in sizes[:6])


@pytest.mark.parametrize("quick", [NOT_QUICK, Quick(size=4, together=50)])
def test_no_batch_is_larger_than_the_maximum_when_one_request_is(quick: Quick) -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        assert await batcher.answer(list(range(10))) == [2 * n for n in range(10)]

    assert [len(batch) for batch in run(test, quick=quick, max_batch=4).batches] == [4, 4, 2]


def test_one_input_waits_no_longer_than_the_delay_when_others_do_not_come() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        await batcher.answer([1, 2, 3])  # from now on a batch of three is expected
        began = asyncio.get_running_loop().time()
        await batcher.answer([4])
        assert 0.09 < asyncio.get_running_loop().time() - began < 1.0

    run(test, max_delay_ms=100.0)


def test_request_is_refused_with_429_when_the_queue_is_full_and_the_others_are_answered() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        doubling.gate.clear()
        running = asyncio.create_task(batcher.answer([0]))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(batcher.answer([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refusal:
            await batcher.answer([4, 5])
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (429, "1")
        doubling.gate.set()
        assert (await running, await waiting) == ([0], [2, 4, 6])

    run(test, queue=4)


def test_request_ends_with_504_and_its_waiting_inputs_are_not_computed_when_time_is_up() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        doubling.gate.clear()
        outcomes = await asyncio.gather(batcher.answer([1]), batcher.answer([2]), return_exceptions=True)
        assert [outcome.status for outcome in outcomes if isinstance(outcome, Refusal)] == [504, 504]
        late = asyncio.create_task(batcher.answer([3]))
        await asyncio.sleep(0)
        doubling.gate.set()
        assert await late == [6]

    assert [2] not in run(test, timeout_s=0.2).batches[1:]


def test_bad_input_fails_alone_when_it_shares_a_batch() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        doubling.gate.clear()
        first = asyncio.create_task(batcher.answer([0]))
        await asyncio.sleep(0.1)
        tasks = [asyncio.create_task(batcher.answer(inputs)) for inputs in ([1], [2, "bad"], [3])]
        await asyncio.sleep(0.1)
        doubling.gate.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [outcomes[0], outcomes[1], outcomes[3]] == [[0], [2], [6]]
        refusal = outcomes[2]
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.message) == (400, "inputs[1]: 'bad' is not a number")

    run(test)


def test_all_that_waits_is_answered_when_it_is_closed() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        doubling.gate.clear()
        tasks = [asyncio.create_task(batcher.answer([n])) for n in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.05)
        doubling.gate.set()
        await closing
        assert [await task for task in tasks] == [[0], [2], [4], [6], [8]]

    run(test)


def test_bad_input_of_a_lone_quick_request_is_refused_as_any_other() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        with pytest.raises(Refusal, match="inputs\\[1\\]: 'bad' is not a number") as refusal:
            await batcher.answer([1, "bad"])
        assert refusal.value.status == 400
        assert await batcher.answer([1]) == [2]

    run(test, quick=Quick(size=8, together=4))


def test_a_client_left_alone_after_a_crowd_is_answered_at_once_again_however_many_inputs_it_sends() -> None:
    async def test(batcher: Batcher, doubling: Doubling) -> None:
        await asyncio.gather(*(batcher.answer([n]) for n in range(4)))
        assert not batcher._may_answer_now([1, 2])
        assert await batcher.answer([1, 2]) == [2, 4]
        assert batcher._may_answer_now([1, 2])

    run(test, quick=Quick(size=4, together=4))


class Noting(Doubling):
    """Notes the thread of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def __call__(self, inputs: list[Any]) -> list[Any]:
        self.threads.append(threading.get_ident())
        return super().__call__(inputs)


def test_event_loop_answers_what_is_quick_and_nothing_larger_nor_more_of_it() -> None:
    noting = Noting()

    async def test(batcher: Batcher, _: Doubling) -> None:
        assert await batcher.answer([1]) == [2]
        for _ in range(2):  # the first of several that come at once finds itself alone, once
            assert await asyncio.gather(*(batcher.answer([n]) for n in range(4))) == [[0], [2], [4], [6]]
        assert await batcher.answer(["longer than it"]) == [2 * "longer than it"]
        assert await batcher.answer([1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
        assert await batcher.answer([1]) == [2]
        assert await asyncio.gather(*(batcher.answer([n]) for n in range(2))) == [[0], [2]]

    run(test, noting, quick=Quick(size=4, together=4))
    together = [[1], [0], [1, 2, 3], [0, 1, 2, 3]]
    assert noting.batches == [*together, ["longer than it"], [1, 2, 3, 4, 5], [1], [0], [1]]
    here = threading.get_ident()
    assert [thread == here for thread in noting.threads] == 4 * [True] + 2 * [False] + 3 * [True]
