"""The Open Inference Protocol, spoken by Triton's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.model_server import ModelServer
from tests.word_bundle import translation, write_word_bundle

MODEL = "words-fp32"
SOURCE = np.array([[5, 6, 3], [20, 3, 0]], np.int64)
TARGET = np.array([[6, 7, 3], [21, 3, 0]], np.int64)  # the first version moves each word by one


@pytest.fixture
def client(server: ModelServer):
    from tritonclient.http import InferenceServerClient

    client = InferenceServerClient(server.url.removeprefix("http://"))
    yield client
    client.close()


def asked(binary: bool):
    from tritonclient.http import InferInput

    given = InferInput("source", SOURCE.shape, "INT64")
    given.set_data_from_numpy(SOURCE, binary_data=binary)
    return [given]


def test_health_and_metadata_are_what_tritonclient_expects(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready("nothing")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL) == {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "source", "datatype": "INT64", "shape": [-1, -1]}],
        "outputs": [{"name": "target", "datatype": "INT64", "shape": [-1, -1]}],
    }
    assert client.get_model_repository_index() == [{"name": MODEL, "version": "1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("version", ["", "1"])
def test_tensors_go_in_and_out_as_json_and_as_bytes(client, binary_in: bool, binary_out: bool | None, version) -> None:
    from tritonclient.http import InferRequestedOutput

    outputs = None if binary_out is None else [InferRequestedOutput("target", binary_data=binary_out)]
    result = client.infer(MODEL, asked(binary_in), version, outputs=outputs, request_id="17")
    np.testing.assert_array_equal(result.as_numpy("target"), TARGET)
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == (MODEL, "1", "17")


def test_graph_and_predictor_give_the_same_answers(client, server: ModelServer) -> None:
    answers = server.post(f"/predict/{MODEL}", {"inputs": ["w1 w2"]}).json()["answers"]
    (row, _) = client.infer(MODEL, asked(True)).as_numpy("target")
    words = [f"t{number - 4}" for number in row if number > 3]
    assert answers == [" ".join(words)] == [translation("w1 w2", 1)]


def test_error_reaches_the_client_as_text(client) -> None:
    from tritonclient.http import InferInput
    from tritonclient.utils import InferenceServerException

    given = InferInput("sauce", SOURCE.shape, "INT64")
    given.set_data_from_numpy(SOURCE)
    with pytest.raises(InferenceServerException, match=r"no input 'sauce', did you mean source\?"):
        client.infer(MODEL, [given])


def test_each_graph_is_a_model_when_a_bundle_has_several(tmp_path: Path) -> None:
    from tritonclient.http import InferenceServerClient

    bundle = write_word_bundle(tmp_path / "words", version=1, graphs=("translate", "again"))
    with ModelServer(tmp_path, str(bundle)) as server:
        client = InferenceServerClient(server.url.removeprefix("http://"))
        names = [model["name"] for model in client.get_model_repository_index()]
        assert sorted(names) == [f"{MODEL}.again", f"{MODEL}.translate"]
        for name in names:
            assert client.get_model_metadata(name)["name"] == name
            np.testing.assert_array_equal(client.infer(name, asked(True)).as_numpy("target"), TARGET)
        assert not client.is_model_ready(MODEL)
        error = server.get(f"/v2/models/{MODEL}").json()["error"]
        assert error == f"no model '{MODEL}'; {MODEL}'s graphs are {MODEL}.again, {MODEL}.translate"
        client.close()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"datatype": "FP32"}, "source: datatype 'FP32', expected INT64"),
        ({"shape": [3]}, "source: shape [3], expected [-1, -1]"),
        ({"shape": [1, 4]}, "source: 3 values, shape [1, 4] needs 4"),
        ({"shape": [1, -3]}, "source: shape [1, -3]"),
        ({"shape": [100, 3]}, "source: 100 rows, this server takes 32 at a time"),
        ({"data": [1.5, 2, 3]}, "source: data holds values that are no INT64"),
        ({"data": ["a", "b", "c"]}, "source: data holds values that are no INT64"),
        ({"data": [[1], [2, 3]]}, "source: data is not an array of INT64"),
        ({"data": None}, "source: no data"),
        ({"data": [1, 2, 2**64]}, "source: data"),
        ({"parameters": {"binary_data_size": 24}}, "source: both data and binary_data_size"),
        ({"data": None, "parameters": {"binary_data_size": 24}}, "binary_data_size 24, but 0 bytes are left"),
        ({"data": [10**6, 1, 1]}, "words-fp32: the graph can't compute these values"),
        ({"name": 5}, "inputs.0.name: Input should be a valid string"),
    ],
)  # fmt: skip
def test_tensor_is_refused_with_what_is_wrong(server: ModelServer, tensor: dict, message: str) -> None:
    given = {"name": "source", "shape": [1, 3], "datatype": "INT64", "data": [5, 6, 3], **tensor}
    response = server.post(f"/v2/models/{MODEL}/infer", {"inputs": [given]})
    assert response.status_code == 400
    assert message in response.json()["error"]
