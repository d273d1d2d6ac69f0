"""What all routes do with a request: read its body within limits, parse it, say who answered, answer in JSON."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Scope

from deploy.server.refusals import Refusal
from deploy.server.settings import Settings

Body = TypeVar("Body", bound=BaseModel)
ANSWERED_BY = "modelpress.answered_by"  # in the scope: {"model", "version", "role"} for log and metrics
_CLOSE = {"Connection": "close"}  # the rest of the body is on its way, and nobody will read it


def json_response(value: Any, status: int = 200) -> Response:
    """Return a JSON response; floats that JSON can't write become null."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def internal_error() -> Response:
    """Return what a client hears of our own mistakes."""
    return json_response({"error": "internal error; the server's log has it"}, 500)


def refusal_response(refusal: Refusal) -> Response:
    """Return what a refused client hears."""
    response = json_response({"error": refusal.message}, refusal.status)
    response.headers.update(refusal.headers)
    return response


def answered_by(request: Request, model: str, version: str, role: str) -> None:
    """Tell log and metrics which version answers this request, and in which role."""
    request.scope[ANSWERED_BY] = {"model": model, "version": version, "role": role}


async def read_body(request: Request, settings: Settings) -> bytes:
    """Return the body.

    Raises:
        Refusal: 413 too large, 408 too slow, 415 compressed.
    """
    limit = settings.max_request_bytes
    if header(request.scope, b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "compressed bodies are not read; send it as it is", _CLOSE)
    stated = header(request.scope, b"content-length", b"0")
    if stated.isdigit() and int(stated) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {settings.body_s:g} s", _CLOSE) from None
    return b"".join(parts)


def header(scope: Scope, name: bytes, absent: bytes = b"") -> bytes:
    """Return a header's first value as it came: `Request.headers` decodes all of them each time it is asked."""
    return next((value for key, value in scope["headers"] if key == name), absent)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"a request may have {limit / 2**20:g} MiB (--max-request-mb)", _CLOSE)


def parse_json(body: bytes | memoryview, kind: type[Body]) -> Body:
    """Return the checked value of a JSON body.

    Raises:
        Refusal: 400 and the first thing that is wrong.
    """
    try:
        return kind.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"not JSON: {error.msg} at {error.pos} (numbers are finite, text is UTF-8)") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Refusal(400, f"{where}: {first['msg']}") from None
