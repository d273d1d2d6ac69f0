"""Start a server and stay until it is told to end: SIGTERM or Ctrl-C, and everything accepted is answered first."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from components.core.errors import ModelpressError
from deploy.server.app import create_app
from deploy.server.connections import PatientProtocol
from deploy.server.logs import log_as_json
from deploy.server.metrics import SHARED_FOLDER
from deploy.server.settings import Reference, Settings
from deploy.server.shelf import Shelf
from deploy.server.supply import Supply

log = logging.getLogger("modelpress.server")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOOK_S = 0.05
Check = Callable[[Path], None]


def serve(references: list[Reference], settings: Settings, root: Path, check: Check) -> None:
    """Serve the referenced bundles; `root` is the project whose registry is followed.

    check: called with each bundle's folder first, e.g. to require its signature.

    Raises:
        ModelpressError: the address is taken, or something to be served can't be.
    """
    listener = _listen(settings)
    log_as_json()
    host, port = listener.getsockname()[:2]
    log.info("listening", extra={"fields": {"url": f"http://{host}:{port}"}})
    if settings.host not in LOOPBACK and not settings.token:
        log.warning("reachable from other machines, without a token: set MODELPRESS_TOKEN")
    run = _serve_here if settings.processes == 1 else _serve_in_processes
    run(references, settings, root, check, listener)
    log.info("stopped")


def _serve_here(
    references: list[Reference], settings: Settings, root: Path, check: Check, listener: socket.socket
) -> None:
    failures: list[ModelpressError] = []

    def failed(error: ModelpressError) -> None:
        failures.append(error)
        server.should_exit = True

    @asynccontextmanager
    async def supplier(shelf: Shelf) -> AsyncIterator[None]:
        with _supplying(Supply(shelf, references, root, check, failed)):
            yield

    server = uvicorn.Server(_config(create_app(references, settings, supplier), settings))
    # uvicorn hands a signal on once it has shut down; ended as asked is no failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    server.run(sockets=[listener])
    if failures:
        raise failures[0]


def _serve_in_processes(
    references: list[Reference], settings: Settings, root: Path, check: Check, listener: socket.socket
) -> None:
    """Let uvicorn's supervisor keep so many processes at work; each has every model, its own queues and connections."""
    folder = tempfile.mkdtemp(prefix="modelpress-metrics-")
    os.environ[SHARED_FOLDER] = folder  # the processes inherit it
    app = partial(_app_of_a_process, references, settings, root, check)
    supervisor = Multiprocess(_config(app, settings, factory=True, workers=settings.processes), sockets=[listener])
    try:
        supervisor.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise ModelpressError("a process could not start; the log's last error above says why")


def _app_of_a_process(references: list[Reference], settings: Settings, root: Path, check: Check) -> ASGIApp:
    log_as_json()

    @asynccontextmanager
    async def supplier(shelf: Shelf) -> AsyncIterator[None]:
        failures: list[ModelpressError] = []
        with _supplying(Supply(shelf, references, root, check, failures.append)):
            while not shelf.ready:  # the address is shared: one that is not ready must not accept what another could do
                if failures:
                    raise failures[0]
                await asyncio.sleep(LOOK_S)
            yield

    return create_app(references, settings, supplier)


@contextmanager
def _supplying(supply: Supply) -> Iterator[None]:
    supply.start()
    try:
        yield
    finally:
        supply.stop()


def _config(app: Any, settings: Settings, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=int(settings.idle_s),
        timeout_graceful_shutdown=int(settings.timeout_s + settings.body_s) + 5,
        **options,
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ModelpressError(
            f"{settings.host}:{settings.port}: can't listen there ({error}); choose another --port or --host"
        ) from None
