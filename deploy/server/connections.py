"""Connections that say nothing are closed: before their first request, and in the middle of a request's head.

uvicorn closes those that are idle between two requests; a body that stops arriving is `requests.read_body`'s affair.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on how long a request's head may take: its keep-alive time."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for a head."""
        super().connection_made(transport)
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
