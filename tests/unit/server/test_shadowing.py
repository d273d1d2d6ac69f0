from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from deploy.server.metrics import Metrics
from deploy.server.shadowing import shadow


def test_the_live_answers_bytes_leave_before_the_shadow_computes() -> None:
    done: list[str] = []
    tasks: list[asyncio.Task[Any]] = []
    version: Any = SimpleNamespace(model=SimpleNamespace(version="2"), batcher=[])
    served: Any = SimpleNamespace(name="toy", at=lambda role: (None, version))
    shelf: Any = SimpleNamespace(
        metrics=Metrics(),
        settings=SimpleNamespace(queue=8),
        background=lambda work: tasks.append(asyncio.create_task(work())),
    )

    async def answer(_: Any) -> bool:
        done.append("shadow")
        return True

    async def request() -> None:
        shadow(shelf, served, answer)
        asyncio.get_running_loop().call_soon(done.append, "live")  # as `connections.Together` sends a response
        await asyncio.gather(*tasks)

    asyncio.run(request())
    assert done == ["live", "shadow"]
    assert b'outcome="equal",version="2"} 1.0' in shelf.metrics.text()
