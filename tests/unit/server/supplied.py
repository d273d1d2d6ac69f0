"""A shelf filled as `modelpress serve` fills it, for servers inside the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from components.core.errors import ModelpressError
from deploy.server.app import Supplier
from deploy.server.settings import Reference
from deploy.server.shelf import Shelf
from deploy.server.supply import Supply


def supplied(references: list[Reference], root: Path = Path()) -> Supplier:
    """Return what fills the shelf with local bundles and waits until it is full."""

    @asynccontextmanager
    async def supplier(shelf: Shelf) -> AsyncIterator[None]:
        import asyncio

        def failed(error: ModelpressError) -> None:
            raise error

        supply = Supply(shelf, references, root, lambda folder: None, failed)
        supply.start()
        while not shelf.ready:
            await asyncio.sleep(0.01)
        yield
        supply.stop()

    return supplier
