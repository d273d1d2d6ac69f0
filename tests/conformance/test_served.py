"""Every task's bundle behind the server: Triton's client gets what the graph gives, people what the predictor says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.bundle import Bundle
from components.core.config import parse_config
from components.core.files import write_json
from components.core.task import task_names
from components.core.tolerance import tolerance_for
from components.export.export import export_model
from components.inference import load_predictor
from components.inference.session import open_session
from tests.conformance.test_tasks import MODELS, TOYS, build, prepared
from tests.model_server import ModelServer

__all__ = ["prepared"]  # the fixture
ONE_OF_EACH = {task: name for name, (task, _) in reversed(MODELS.items())}


def package(prepared: Path, name: str, out: Path) -> Path:
    """Write a bundle of an untrained model: what it answers is not the question here."""
    task, model, root = build(prepared, name)
    identity = {"recipe": name, "variant": name, "parent": name, "precision": "fp32", "runtime": "cpu"}
    options = parse_config(task.Options, TOYS[task.name].options, "options")
    examples = task.dataset(root, "dev")
    manifest = export_model(
        task, model, options, examples, root / "assets", tolerance_for("fp32", {}, "t"), identity, out
    )
    inputs = examples.inputs()[:4]
    answers = load_predictor(out).predict(inputs)
    write_json(
        out / "golden.json", {"examples": [{"input": i, "output": o} for i, o in zip(inputs, answers, strict=True)]}
    )
    Bundle.save(out, manifest)
    return out


@pytest.fixture(scope="module")
def bundles(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for task, name in ONE_OF_EACH.items():
        (folder / task).mkdir()
        made[task] = package(prepared, name, folder / task)
    return made


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with ModelServer(tmp_path_factory.mktemp("server"), *map(str, bundles.values())) as running:
        yield running


class Recorder:
    """A session that keeps what it was given."""

    def __init__(self, path: Path) -> None:
        self.session, self.given = open_session(path), dict[str, np.ndarray]()

    def run(self, outputs: Any, inputs: Any) -> list[Any]:
        self.given = dict(inputs)
        return self.session.run(outputs, inputs)


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_what_the_graph_gives(
    server: ModelServer, bundles: dict[str, Path], task: str, binary: bool
) -> None:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    predictor = load_predictor(bundles[task])
    manifest = Bundle.load(bundles[task]).manifest
    ((name, graph),) = manifest.graphs.items()
    predictor.sessions = {name: Recorder(bundles[task] / graph.file)}  # type: ignore[dict-item]
    predictor.predict([example_input(server, manifest.variant)])
    given = predictor.sessions[name].given  # type: ignore[attr-defined]
    expected = dict(
        zip([t.name for t in graph.outputs], open_session(bundles[task] / graph.file).run(None, given), strict=True)
    )
    client = InferenceServerClient(server.url.removeprefix("http://"))
    try:
        assert client.is_model_ready(manifest.variant)
        metadata = client.get_model_metadata(manifest.variant)
        kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
        assert set(kinds) == set(given)
        inputs = []
        for key, value in given.items():
            inputs.append(InferInput(key, value.shape, kinds[key]))
            inputs[-1].set_data_from_numpy(value, binary_data=binary)
        outputs = [InferRequestedOutput(key, binary_data=binary) for key in expected]
        result = client.infer(manifest.variant, inputs, outputs=outputs)
        for key, value in expected.items():
            np.testing.assert_allclose(result.as_numpy(key), value, rtol=1e-5, atol=1e-6)
    finally:
        client.close()


def example_input(server: ModelServer, variant: str) -> Any:
    (model,) = (model for model in server.get("/models").json() if model["name"] == variant)
    return model["examples"][0]["input"]


@pytest.mark.parametrize("task", task_names())
def test_people_get_what_the_predictor_answers(server: ModelServer, bundles: dict[str, Path], task: str) -> None:
    variant = Bundle.load(bundles[task]).manifest.variant
    given = example_input(server, variant)
    answer = server.post(f"/predict/{variant}", {"inputs": [given]}).json()
    assert answer["answers"] == load_predictor(bundles[task]).predict([given])
