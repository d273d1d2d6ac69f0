"""For people: what the task takes in, what its predictor answers out; the page at / tries it by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from components.core.golden import equal_answers
from deploy.server.kinds import kind_of
from deploy.server.refusals import Refusal
from deploy.server.requests import answered_by, json_response, parse_json, read_body
from deploy.server.shadowing import shadow
from deploy.server.shelf import ServedModel, ServedVersion, Shelf

PAGE = Path(__file__).with_name("page.html")
SHOWN_EXAMPLES = 8


class PredictRequest(BaseModel):
    """Inputs as the model's predictor takes them: text, numbers, lists of them."""

    model_config = ConfigDict(strict=True)
    inputs: list[Any] = Field(min_length=1)


class PredictResponse(BaseModel):
    """One answer for each input, in their order, and who gave them."""

    model: str
    version: str
    answers: list[Any]


def people_routes(shelf: Shelf) -> APIRouter:
    """Return / and /models."""
    routes = APIRouter(tags=["Models"])

    @routes.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE, media_type="text/html")

    @routes.get("/models", summary="What is served, with examples to try")
    async def models() -> Response:
        return json_response([describe_model(served) for served in shelf.models.values() if served.at("live")])

    return routes


def predict_routes(shelf: Shelf) -> list[Route]:
    """Return /predict/MODEL and /predict/MODEL/versions/VERSION.

    Plain routes, for `Shortcut`; `openapi` documents them model by model.
    """
    paths = ("/predict/{model}", "/predict/{model}/versions/{version}")
    return [Route(path, _predict(shelf), methods=["POST"]) for path in paths]


def _predict(shelf: Shelf) -> Any:
    async def predict(request: Request) -> Response:
        body = await read_body(request, shelf.settings)
        served = shelf.model(request.path_params["model"])
        version, role = served.pick(request.path_params.get("version"))
        name, number = served.name, version.model.version
        answered_by(request, name, number, role)
        inputs = parse_json(body, PredictRequest).inputs
        check_kinds(inputs, version)
        answers = await version.batcher.answer(inputs)
        if role == "live":
            _shadow(shelf, served, inputs, answers)
        return json_response({"model": name, "version": number, "answers": answers})

    return predict


def check_kinds(inputs: list[Any], version: ServedVersion) -> None:
    """Refuse inputs of another kind than the golden ones, e.g. a number where the model takes text.

    A predictor may also take the path of a file; from outside it takes none, since the golden inputs are data URLs.

    Raises:
        Refusal: 400 and the first such input.
    """
    kinds = version.model.kinds
    for number, item in enumerate(inputs):
        if kind_of(item) not in kinds and not (isinstance(item, str) and "text" in kinds):
            wanted = " or ".join(sorted(kinds))
            raise Refusal(400, f"inputs[{number}]: {version.model.name} takes {wanted}, this is {kind_of(item)}")


def describe_model(served: ServedModel) -> dict[str, Any]:
    """Return what the page shows of a model: versions with their roles, task, precision, examples."""
    live = served.at("live")
    assert live is not None
    model = live[1].model
    return {
        "name": served.name,
        "version": model.version,
        "versions": [
            {"version": version.model.version, "role": reference.role, "percent": reference.percent}
            for reference, version in served.places.items()
        ],
        "task": model.manifest.task,
        "variant": model.manifest.variant,
        "precision": model.manifest.precision,
        "parameters": model.manifest.parameters,
        "takes": kind_of(model.examples[0].input),
        "examples": [{"input": item.input, "output": item.output} for item in model.examples[:SHOWN_EXAMPLES]],
    }


def _shadow(shelf: Shelf, served: ServedModel, inputs: list[Any], answers: list[Any]) -> None:
    async def answer(version: ServedVersion) -> bool:
        return equal_answers(await version.batcher.answer(inputs), answers)

    shadow(shelf, served, answer)
