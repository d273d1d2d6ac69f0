"""The OpenAPI document: a working example of /predict for each model, from its golden examples, as of this moment."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from deploy.server.people_routes import PredictRequest, PredictResponse
from deploy.server.protocol_routes import graph_names
from deploy.server.shelf import ServedModel, Shelf
from deploy.server.tensors import InferRequest

_REFUSALS = {
    "400": "The request is wrong; the text says where", "401": "No or another token", "404": "No such model or version",
    "405": "Another method", "408": "The body came too slowly", "413": "The body is too large",
    "415": "The body is compressed", "429": "Too many requests wait; Retry-After says when to come again",
    "503": "Not ready yet, or stopping", "504": "No answer in time",
}  # fmt: skip
_ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def openapi_document(app: FastAPI, shelf: Shelf) -> dict[str, Any]:
    """Return the document for the models that are served now."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in (PredictRequest, PredictResponse, InferRequest):
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    schemas["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["parameters"] = _path_parameters(path, shelf)
            operation["responses"] = _responses({"description": "OK"})
            if path.endswith("/infer"):
                operation["requestBody"] = _body({"schema": {"$ref": "#/components/schemas/InferRequest"}})
    for served in shelf.models.values():
        if served.at("live"):
            document["paths"][f"/predict/{served.name}"] = {"post": _predict(served)}
    if shelf.settings.token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _path_parameters(path: str, shelf: Shelf) -> list[dict[str, Any]]:
    """Return the path's parameters, with the names that are served to choose from."""
    known = {
        "model": [name for served in shelf.models.values() for name in graph_names(served)],
        "version": sorted({version for served in shelf.models.values() for version in served.versions()}),
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": values}}
        for name, values in known.items()
        if f"{{{name}}}" in path
    ]


def _predict(served: ServedModel) -> dict[str, Any]:
    live = served.at("live")
    assert live is not None
    model = live[1].model
    example = model.examples[0]
    answer = {"model": served.name, "version": model.version, "answers": [example.output]}
    ok = {"schema": {"$ref": "#/components/schemas/PredictResponse"}, "example": answer}
    return {
        "tags": ["Models"],
        "operationId": f"predict {served.name}",
        "summary": f"Ask {served.name} ({model.manifest.task}, {model.manifest.precision})",
        "requestBody": _body(
            {"schema": {"$ref": "#/components/schemas/PredictRequest"}, "example": {"inputs": [example.input]}}
        ),
        "responses": _responses({"description": "One answer for each input", "content": {"application/json": ok}}),
    }


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": content}}


def _responses(ok: dict[str, Any]) -> dict[str, Any]:
    return {"200": ok, **{status: {"description": text, **_ERROR} for status, text in _REFUSALS.items()}}
