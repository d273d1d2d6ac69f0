"""The routes that are asked most, ahead of the framework, whose middlewares and exit stacks take as long as they do."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.server.refusals import Refusal
from deploy.server.requests import refusal_response


class Shortcut:
    """ASGI middleware that answers requests to some plain routes itself and passes all others on."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the route and answer as it and the application's handler of refusals would."""
        for route in self._routes:
            found, matched = route.matches(scope)
            if found is Match.FULL:
                scope.update(matched, route=route)
                try:
                    response = await route.endpoint(Request(scope, receive))
                except Refusal as error:
                    response = refusal_response(error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
