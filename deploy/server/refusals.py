"""Requests the server does not answer: a status and one line that names no path and no code of the server."""

from __future__ import annotations

from collections.abc import Mapping

MAX_TEXT = 400  # what a client sent comes back in an error, but not all of it


class Refusal(Exception):
    """Becomes `{"error": message}` with that status."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.message, self.headers = status, message[:MAX_TEXT], dict(headers or {})
        super().__init__(message)


def queue_full(model: str) -> Refusal:
    """Return the declared overload: nothing was begun, the client may come again."""
    return Refusal(429, f"{model}: too many requests are waiting; try again in a second", {"Retry-After": "1"})


def timed_out(model: str, seconds: float) -> Refusal:
    """Return what a client hears that was accepted but not answered in time."""
    return Refusal(504, f"{model}: no answer within {seconds:g} s")


def not_ready() -> Refusal:
    """Return what a client hears before all models are loaded and warm, and once the server is stopping."""
    return Refusal(503, "the server is not ready; try again in a second", {"Retry-After": "1"})
