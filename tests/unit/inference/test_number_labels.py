"""The predictor around a real graph whose label is the place of the row's largest number."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from components.core.errors import ModelpressError
from components.core.files import write_json
from components.inference.number_labels import NumberLabelPredictor
from components.inference.session import open_session


@pytest.fixture
def predictor(tmp_path: Path) -> NumberLabelPredictor:
    write_json(tmp_path / "classes.json", {"numbers": 3, "labels": ["first", "second", "third"]})
    nodes = [
        helper.make_node("ArgMax", ["values"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["values"], ["probability"]),
    ]
    tensors = [("values", TensorProto.FLOAT, ["b", 3]), ("label", TensorProto.INT64, ["b"])]
    tensors.append(("probability", TensorProto.FLOAT, ["b", 3]))
    values, *outputs = (helper.make_tensor_value_info(*tensor) for tensor in tensors)
    graph = helper.make_graph(nodes, "largest", [values], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return NumberLabelPredictor({"classify": open_session(model.SerializeToString())}, tmp_path, {})


def test_each_row_gets_the_name_of_its_class(predictor: NumberLabelPredictor) -> None:
    assert predictor.predict(["1 2.5 -3", " 4\t1 1e-3 "]) == ["second", "first"]
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "2 numbers; give 3 finite ones"),
        ("1 2 x", "could not convert string to float: 'x'; give 3 numbers"),
        ("1 2 inf", "give 3 finite ones"),
        ("", "0 numbers; give 3"),
    ],
)
def test_another_row_is_a_clear_error(predictor: NumberLabelPredictor, text: str, message: str) -> None:
    with pytest.raises(ModelpressError, match=message):
        predictor.predict([text])
