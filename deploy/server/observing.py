"""Around every request: a line in the log, a count in the metrics, and no exception that leaves as anything but 500."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.server.metrics import Metrics
from deploy.server.requests import ANSWERED_BY, internal_error

log = logging.getLogger("modelpress.requests")
_QUIET = ("/v2/health/live", "/v2/health/ready", "/metrics")  # probes would fill the log
CLIENT_GONE = 499  # as nginx writes it
_NOBODY = {"model": "", "version": "", "role": ""}


class Observed:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, watch the response's status, account for both."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:  # in the middle of its body; nobody is there to hear anything
            status = CLIENT_GONE
        except Exception:
            log.exception("a request failed")
            if not status:
                await internal_error()(scope, receive, watched)
        finally:  # the answer's bytes leave in the event loop's next step; what is noted of it leaves behind them
            asyncio.get_running_loop().call_soon(self._account, scope, status, time.perf_counter() - began)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        answered = scope.get(ANSWERED_BY, _NOBODY)
        route: Any = getattr(scope.get("route"), "path", "other")
        self._metrics.account(route, **answered, status=str(status), seconds=seconds)
        if route not in _QUIET:
            log.info("request", extra={"fields": {
                "method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 2), **answered,
            }})  # fmt: skip
