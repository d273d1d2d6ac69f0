"""A version that answers the live one's requests beside it, unheard: only whether it agrees is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from deploy.server.refusals import Refusal
from deploy.server.shelf import ServedModel, ServedVersion, Shelf

log = logging.getLogger("modelpress.shadow")


def shadow(shelf: Shelf, served: ServedModel, answer: Callable[[ServedVersion], Awaitable[bool]]) -> None:
    """Let the shadow answer, if there is one; `answer` gives whether it said the same as the live version.

    It never makes a client wait or fail: while its own queue is half full, requests pass it by.
    """
    place = served.at("shadow")
    if place is None:
        return
    version = place[1]
    count = shelf.metrics.shadow

    async def compare() -> None:
        await asyncio.sleep(0)  # the live answer's bytes leave first
        try:
            outcome = "equal" if await answer(version) else "different"
        except Refusal as refusal:
            outcome = "dropped" if refusal.status == 429 else "failed"
        except Exception:
            log.exception("a shadow's answer can't be compared")
            outcome = "failed"
        count.labels(served.name, version.model.version, outcome).inc()

    if len(version.batcher) > shelf.settings.queue // 2:
        count.labels(served.name, version.model.version, "dropped").inc()
    else:
        shelf.background(compare)
