"""The application: routes, errors, documentation and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from deploy.server.metrics import Metrics
from deploy.server.observing import Observed
from deploy.server.openapi import openapi_document
from deploy.server.people_routes import people_routes, predict_routes
from deploy.server.protocol_routes import VERSION, protocol_routes
from deploy.server.refusals import Refusal
from deploy.server.requests import internal_error, json_response, refusal_response
from deploy.server.settings import Reference, Settings
from deploy.server.shelf import Shelf
from deploy.server.shortcut import Shortcut
from deploy.server.tokens import TokenRequired

Supplier = Callable[[Shelf], AbstractAsyncContextManager[None]]


def create_app(references: list[Reference], settings: Settings, supplier: Supplier) -> ASGIApp:
    """Return the application. supplier: fills the shelf while its context is open."""
    metrics = Metrics()
    shelf = Shelf(references, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with supplier(shelf):
            yield
        await shelf.close()

    app = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,  # a redirect has no body to say anything in
        title="modelpress",
        version=VERSION,
        description="Bundles at work. POST /predict/MODEL answers people, /v2 speaks the Open Inference Protocol.",
        lifespan=lifespan,
    )
    asked_most = predict_routes(shelf)
    app.router.routes[:0] = asked_most  # here too: for the answer to another method
    app.include_router(people_routes(shelf))
    app.include_router(protocol_routes(shelf))

    @app.get("/metrics", summary="Measures for Prometheus", tags=["Models"])
    async def measures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(HTTPException, _not_found)
    app.openapi = lambda: openapi_document(app, shelf)  # type: ignore[method-assign]
    answering: ASGIApp = Shortcut(app, asked_most)
    if settings.token:
        answering = TokenRequired(answering, token=settings.token)
    return Observed(answering, metrics=metrics)


async def _refused(request: Request, error: Any) -> Response:
    return refusal_response(error)


async def _failed(request: Request, error: Exception) -> Response:
    return internal_error()


async def _not_found(request: Request, error: Any) -> Response:
    """Answer Starlette's own errors (no such route, another method) in the same form."""
    response = json_response({"error": f"{error.detail}; /docs lists what there is"}, error.status_code)
    response.headers.update(error.headers or {})
    return response
