"""The Open Inference Protocol v2 over HTTP, as `tritonclient[http]` speaks it, binary tensors included.

A model of one graph goes by its name; of several, each graph is a model of its own, NAME.GRAPH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from components.core.bundle import GraphInfo
from components.core.golden import equal_answers
from deploy.server.refusals import Refusal
from deploy.server.requests import answered_by, json_response, parse_json, read_body
from deploy.server.settings import Role
from deploy.server.shadowing import shadow
from deploy.server.shelf import ServedModel, ServedVersion, Shelf
from deploy.server.tensors import InferRequest, describe, read_tensors, wanted_outputs, write_tensors

HEADER_LENGTH = "Inference-Header-Content-Length"
PARSED_ON_THE_LOOP = 64 * 1024  # bytes; reading more would make other requests wait
VERSION = "0.1.0"


@dataclass(frozen=True)
class Target:
    """The graph a request means, and the version of it that answers."""

    name: str
    served: ServedModel
    graph: str
    version: ServedVersion
    role: Role

    @property
    def info(self) -> GraphInfo:
        """The graph's inputs and outputs."""
        return self.version.model.manifest.graphs[self.graph]


def find_target(shelf: Shelf, model: str, version: str | None = None) -> Target:
    """Return the graph behind a model's name in a URL: NAME, or NAME.GRAPH where the bundle has several.

    Raises:
        Refusal: 404 no such model, graph or version; 503 not ready.
    """
    prefixes = [known for known in shelf.models if model == known or model.startswith(f"{known}.")]
    served = shelf.model(max(prefixes, key=len, default=model))
    found, role = served.pick(version)
    graphs = found.model.manifest.graphs
    by_name = dict(zip(_graph_names(served.name, graphs), graphs, strict=True))
    if model not in by_name:
        raise Refusal(404, f"no model {model[:80]!r}; {served.name}'s graphs are {', '.join(by_name)}")
    return Target(model, served, by_name[model], found, role)


def graph_names(served: ServedModel) -> list[str]:
    """Return what the live version's graphs are called in URLs."""
    live = served.at("live")
    return _graph_names(served.name, live[1].model.manifest.graphs) if live else []


def _graph_names(model: str, graphs: Collection[str]) -> list[str]:
    return [model] if len(graphs) == 1 else [f"{model}.{graph}" for graph in graphs]


def protocol_routes(shelf: Shelf) -> APIRouter:
    """Return the routes below /v2."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])

    @routes.get("", summary="The server and the extensions it knows")
    async def server() -> Response:
        return json_response(
            {"name": "modelpress", "version": VERSION, "extensions": ["binary_tensor_data", "model_repository"]}
        )

    @routes.get("/health/live", summary="200 while the process answers")
    async def live() -> Response:
        return json_response({"live": True})

    @routes.get("/health/ready", summary="200 once all models are loaded, checked and warm; 400 else")
    async def ready() -> Response:
        return json_response({"ready": shelf.ready}, 200 if shelf.ready else 400)

    @routes.post("/repository/index", summary="All models and versions")
    async def index() -> Response:
        return json_response(
            [
                {"name": name, "version": version.model.version, "state": "READY", "reason": ""}
                for served in shelf.models.values()
                for version in {id(v): v for v in served.places.values()}.values()
                for name in _graph_names(served.name, version.model.manifest.graphs)
            ]
        )

    for path in ("/models/{model}", "/models/{model}/versions/{version}"):
        _model_routes(routes, path, shelf)
    return routes


def _model_routes(routes: APIRouter, path: str, shelf: Shelf) -> None:
    @routes.get(path, summary="Inputs and outputs of a model", name=f"metadata {path}")
    async def metadata(request: Request) -> Response:
        target = find_target(shelf, **request.path_params)
        return json_response(
            {
                "name": target.name,
                "versions": target.served.versions(),
                "platform": "onnxruntime_onnx",
                "inputs": [describe(tensor) for tensor in target.info.inputs],
                "outputs": [describe(tensor) for tensor in target.info.outputs],
            }
        )

    @routes.get(f"{path}/ready", summary="200 if the model answers", name=f"ready {path}")
    async def ready(request: Request) -> Response:
        target = find_target(shelf, **request.path_params)
        return json_response({"name": target.name, "ready": True})

    @routes.post(f"{path}/infer", summary="Run a graph on tensors", name=f"infer {path}")
    async def infer(request: Request) -> Response:
        body = await read_body(request, shelf.settings)
        target = find_target(shelf, **request.path_params)
        answered_by(request, target.served.name, target.version.model.version, target.role)
        work = (body, request.headers.get(HEADER_LENGTH), target.info, shelf.settings.max_batch)
        parsed = (
            read_request(*work) if len(body) <= PARSED_ON_THE_LOOP else await asyncio.to_thread(read_request, *work)
        )
        asked, inputs, binary = parsed
        arrays = await target.version.graphs.run(target.graph, list(binary), inputs)
        if target.role == "live":
            _shadow(shelf, target, list(binary), inputs, arrays)
        return write_response(target, asked, arrays, binary)


def read_request(
    body: bytes, header_length: str | None, graph: GraphInfo, max_rows: int
) -> tuple[InferRequest, dict[str, np.ndarray], dict[str, bool]]:
    """Return an inference request, its input arrays, and {output asked for: as bytes?}.

    Raises:
        Refusal: 400.
    """
    split = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > 12 or int(header_length) > len(body):
            raise Refusal(400, f"{HEADER_LENGTH} {header_length[:40]!r}: not the JSON's length; the body has {split}")
        split = int(header_length)
    asked = parse_json(body[:split], InferRequest)
    return asked, read_tensors(asked, body[split:], graph, max_rows), wanted_outputs(asked, graph)


def write_response(
    target: Target, asked: InferRequest, arrays: dict[str, np.ndarray], binary: dict[str, bool]
) -> Response:
    """Return the answer in the protocol's form: JSON, and bytes behind it where outputs were asked for as bytes."""
    outputs, tail = write_tensors(arrays, target.info, binary)
    answer = {"model_name": target.name, "model_version": target.version.model.version, "outputs": outputs}
    if asked.id is not None:
        answer["id"] = asked.id
    head = orjson.dumps(answer)
    if not tail:
        return Response(head, media_type="application/json")
    return Response(
        b"".join([head, *tail]), media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))}
    )


def _shadow(shelf: Shelf, target: Target, outputs: list[str], inputs: Any, arrays: dict[str, np.ndarray]) -> None:
    async def answer(version: ServedVersion) -> bool:
        found = await version.graphs.run(target.graph, outputs, inputs)
        return await asyncio.to_thread(lambda: all(equal_answers(found[name], arrays[name]) for name in outputs))

    shadow(shelf, target.served, answer)
