"""Connections that say nothing are closed: before their first request, and in the middle of a request's head.

uvicorn closes those that are idle between two requests; a body that stops arriving is `requests.read_body`'s affair.
And a response leaves in one piece, where uvicorn writes its head and its body apart and so wakes the client twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Together:
    """A transport that sends what is written in one step of the event loop at once; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it with all else that is written in this step."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """Send what is left, then close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on how long a request's head may take: its keep-alive time."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for a head."""
        super().connection_made(Together(transport, self.loop))  # type: ignore[arg-type]
        self._head = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Read on; a byte between two requests, or of a body behind its answer, does not make a connection busy."""
        super().data_received(data)
        if self._head is None and (self.cycle is None or self.cycle.response_complete):
            self._head = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def on_message_begin(self) -> None:
        """A head begins: it has its own time from here."""
        super().on_message_begin()
        self._stop_waiting()
        self._head = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
