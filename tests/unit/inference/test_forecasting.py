"""The predictor around a real graph that answers with the last row, and 1/3 more, as its next two rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from components.core.errors import ModelpressError
from components.core.files import write_json
from components.inference.forecasting import BATCH, ForecastPredictor
from components.inference.session import open_session


def last_row_graph() -> bytes:
    constants = {"start": [-1], "end": [2**31], "axis": [1]}
    nodes = [
        helper.make_node("Slice", ["past", "start", "end", "axis"], ["last"]),
        helper.make_node("Add", ["last", "third"], ["more"]),
        helper.make_node("Concat", ["last", "more"], ["future"], axis=1),
    ]
    weights = [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in constants.items()]
    weights.append(helper.make_tensor("third", TensorProto.FLOAT, [], [1 / 3]))
    past, future = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", t, 2]) for n, t in (("past", 3), ("future", 2))
    )
    graph = helper.make_graph(nodes, "last", [past], [future], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.fixture
def predictor(tmp_path: Path) -> ForecastPredictor:
    write_json(tmp_path / "series.json", {"channels": ["low", "high"], "look_back": 3, "deviation": [0.5, 200.0]})
    return ForecastPredictor({"forecast": open_session(last_row_graph())}, tmp_path, {})


ROWS = [[1.0, 100.0], [2.0, 200.0], [3.0, 300.0]]


def test_answer_is_rounded_to_a_thousandth_of_each_channels_deviation(predictor: ForecastPredictor) -> None:
    assert predictor.predict([ROWS]) == [[[3.0, 300.0], [3.3333, 300.3]]]


def test_only_the_last_rows_of_a_longer_series_are_looked_at(predictor: ForecastPredictor) -> None:
    assert predictor.predict([[[9.0, 9.0], *ROWS], ROWS]) == predictor.predict([ROWS, ROWS])


def test_a_csv_file_is_answered_as_its_rows_are(predictor: ForecastPredictor, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("date,low,high\nmon,1,100\ntue,2,200\nwed,3,300\n", encoding="utf-8")
    assert predictor.predict([str(path)]) == predictor.predict([ROWS])


@pytest.mark.parametrize(
    "text",
    [
        "date,high,low\nmon,100,1\ntue,200,2\nwed,300,3\n",
        "\ufeffhigh, low\n100,1\n200,2\n300,3\n",
        "1,100\n2,200\n3,300\n",
    ],
)
def test_columns_of_a_csv_file_are_found_by_name_or_without_names_by_place(
    predictor: ForecastPredictor, tmp_path: Path, text: str
) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    assert predictor.predict([str(tmp_path / "table.csv")]) == predictor.predict([ROWS])


@pytest.mark.parametrize("names", ["low,hihg", "low", "low,high,more"])
def test_other_columns_are_refused_by_name(predictor: ForecastPredictor, tmp_path: Path, names: str) -> None:
    row = ",".join("1" for _ in names.split(","))
    (tmp_path / "table.csv").write_text(f"{names}\n{row}\n{row}\n{row}\n", encoding="utf-8")
    with pytest.raises(ModelpressError, match=r"table\.csv: its columns are .*, the model's low, high; name them so"):
        predictor.predict([str(tmp_path / "table.csv")])


def test_more_windows_than_a_batch_keep_their_order(predictor: ForecastPredictor) -> None:
    past_NTC = np.arange((BATCH + 5) * 6, dtype=float).reshape(-1, 3, 2)
    np.testing.assert_array_equal(predictor.forecast(past_NTC)[:, 0], past_NTC[:, -1])


def test_nothing_asked_is_nothing_answered(predictor: ForecastPredictor) -> None:
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.csv", r"missing\.csv: no such text file"),
        ("nul\0byte", "no such text file"),
        (ROWS[:2], "2 rows; a forecast looks back on 3"),
        ([[1.0], [2.0], [3.0]], "1 numbers a row; give low, high"),
        ([1.0, 2.0], "no numbers a row; give low, high"),
        ([], "no numbers a row"),
        ([[1.0, 2.0], [3.0]], "give rows of numbers, each of the same length"),
        ([[1.0, None], [2.0, 3.0], [4.0, 5.0]], "a number is missing or infinite|give rows of numbers"),
        ([["a", "b"]] * 3, "give rows of numbers"),
        ([[1e300, 1.0]] * 3, "the series: a number is too large for float32"),
        ([[10**400, 1.0]] * 3, "give rows of numbers"),
    ],
)
def test_unusable_series_is_a_clear_error(predictor: ForecastPredictor, given, message: str) -> None:
    with pytest.raises(ModelpressError, match=message):
        predictor.predict([given])


def test_graph_is_a_valid_model() -> None:
    onnx.checker.check_model(onnx.ModelProto.FromString(last_row_graph()))
