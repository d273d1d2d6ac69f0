"""/predict, its documentation and the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_server import ModelServer
from tests.word_bundle import translation, write_word_bundle
from tests.workspace import REPOSITORY

PREDICT = "/predict/words-fp32"


def test_predict_answers_each_input_in_order(server: ModelServer) -> None:
    texts = [f"w{n} w{n + 1}" for n in range(40)]
    response = server.post(PREDICT, {"inputs": texts})
    assert response.json() == {
        "model": "words-fp32", "version": "1", "answers": [translation(text, 1) for text in texts],
    }  # fmt: skip
    assert server.post(f"{PREDICT}/versions/1", {"inputs": ["w1"]}).json()["answers"] == ["t2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": [5]}, "inputs[0]: words-fp32 takes text, this is a number"),
        ({"inputs": ["w1", None]}, "inputs[1]: words-fp32 takes text, this is null"),
        ({"inputs": [["w1"]]}, "takes text, this is a list"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"input": ["w1"]}, "inputs: Field required"),
        ([], "the body: Input should be"),
    ],
)
def test_predict_says_what_is_wrong(server: ModelServer, body: object, message: str) -> None:
    response = server.post(PREDICT, body)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_unknown_names_are_404_with_the_nearest(server: ModelServer) -> None:
    response = server.post("/predict/words-fp23", {"inputs": ["w1"]})
    assert (response.status_code, response.json()["error"]) == (404, "no model 'words-fp23', did you mean words-fp32?")
    response = server.post(f"{PREDICT}/versions/7", {"inputs": ["w1"]})
    assert (response.status_code, "version '7' is not served" in response.json()["error"]) == (404, True)
    assert server.get("/nothing").json() == {"error": "Not Found; /docs lists what there is"}


def test_documented_example_of_each_model_works_as_it_stands(server: ModelServer) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    operations = {path: methods["post"] for path, methods in paths.items() if path.startswith("/predict/")}
    assert list(operations) == [PREDICT]
    for path, operation in operations.items():
        example = operation["requestBody"]["content"]["application/json"]["example"]
        promised = operation["responses"]["200"]["content"]["application/json"]["example"]
        assert server.post(path, example).json() == promised


def test_pages_need_no_other_host(server: ModelServer) -> None:
    for path in ("/", "/docs"):
        page = server.get(path)
        assert page.status_code == 200
        assert re.findall(r"(?:https?:)?//[\w.]+", page.text.replace("http://www.w3.org/2000/svg", "")) == []
    (script,) = re.findall(r'src="([^"]+)"', server.get("/docs").text)
    assert server.get(script).status_code == 200


def test_models_come_with_examples_to_try(server: ModelServer) -> None:
    (model,) = server.get("/models").json()
    assert (model["name"], model["task"], model["takes"]) == ("words-fp32", "translation", "text")
    assert model["examples"][0] == {"input": "w1 w2 w3", "output": "t2 t3 t4"}


def test_path_of_a_file_is_refused_when_the_model_takes_data_urls(tmp_path: Path) -> None:
    """A picture's predictor opens files too; from outside that would read the server's own."""
    bundle = write_word_bundle(tmp_path / "pictures", version=1, golden={"data:,w1": "<unk>"})
    with ModelServer(tmp_path, str(bundle)) as server:
        response = server.post(PREDICT, {"inputs": ["/etc/passwd"]})
        assert (response.status_code, "takes a data URL" in response.json()["error"]) == (400, True)
        assert server.post(PREDICT, {"inputs": ["data:,w1"]}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no bundle 'nothing'"),
        (["models:/x"], "models:/x: not a registered bundle; write models:/RECIPE@champion or models:/RECIPE/3"),
        (["models:/x@champion"], "models:/x@champion: no such version in the registry"),
        (["{words}", "{words}"], "a model words-fp32 is served already"),
        (["{words}", "--canary", "models:/other/1=5"], "no model other is served"),
        (["{words}", "--canary", "models:/words-fp32/1=100"], "give a share between 0 and 100"),
        (["{words}", "--host", "192.0.2.1"], "192.0.2.1:0: can't listen there"),
        (["{changed}"], "sha256 differs from the manifest"),
        (["{wrong}"], "only 0 of 1 golden examples get the answer they had when the bundle was packaged"),
    ],
)
def test_server_does_not_start_and_says_why(words: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    changed = write_word_bundle(tmp_path / "changed", version=1)
    (changed / "MODEL_CARD.md").write_text("other")
    places = {"words": words, "changed": changed, "wrong": write_word_bundle(tmp_path / "wrong", 1, golden={"w1": "?"})}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "serve", *(text.format(**places) for text in arguments), "--port", "0"],
        cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY), "PATH": ""}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, message in done.stderr.splitlines()[-1]) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
