"""Start a server and stay until it is told to end: SIGTERM or Ctrl-C, and everything accepted is answered first."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from components.core.errors import ModelpressError
from deploy.server.app import create_app
from deploy.server.connections import PatientProtocol
from deploy.server.logs import log_as_json
from deploy.server.settings import Reference, Settings
from deploy.server.shelf import Shelf
from deploy.server.supply import Supply

log = logging.getLogger("modelpress.server")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(references: list[Reference], settings: Settings, root: Path, check: Callable[[Path], None]) -> None:
    """Serve the referenced bundles; `root` is the project whose registry is followed.

    check: called with each bundle's folder first, e.g. to require its signature.

    Raises:
        ModelpressError: the address is taken, or something to be served can't be.
    """
    listener = _listen(settings)
    log_as_json()
    failures: list[ModelpressError] = []

    def failed(error: ModelpressError) -> None:
        failures.append(error)
        server.should_exit = True

    @asynccontextmanager
    async def supplier(shelf: Shelf) -> AsyncIterator[None]:
        supply = Supply(shelf, references, root, check, failed)
        supply.start()
        try:
            yield
        finally:
            supply.stop()

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(references, settings, supplier),
            http=PatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.connections,
            timeout_keep_alive=int(settings.idle_s),
            timeout_graceful_shutdown=int(settings.timeout_s + settings.body_s) + 5,
        )
    )
    # uvicorn hands a signal on once it has shut down; ended as asked is no failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    host, port = listener.getsockname()[:2]
    log.info("listening", extra={"fields": {"url": f"http://{host}:{port}"}})
    if settings.host not in LOOPBACK and not settings.token:
        log.warning("reachable from other machines, without a token: set MODELPRESS_TOKEN")
    server.run(sockets=[listener])
    if failures:
        raise failures[0]
    log.info("stopped")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ModelpressError(
            f"{settings.host}:{settings.port}: can't listen there ({error}); choose another --port or --host"
        ) from None
