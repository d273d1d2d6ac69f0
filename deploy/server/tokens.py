"""A shared secret, where one is set: `Authorization: Bearer TOKEN`."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.server.requests import header, json_response

OPEN = ("/", "/v2/health/live", "/v2/health/ready")  # the bare page and what probes ask


class TokenRequired:
    """ASGI middleware that lets in who knows the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._knows(scope):
            await self._app(scope, receive, send)
            return
        response = json_response({"error": "a token is needed: Authorization: Bearer TOKEN"}, 401)
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        return hmac.compare_digest(header(scope, b"authorization"), self._expected)
