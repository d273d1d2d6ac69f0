"""The places an ONNX file takes weights from are found wherever they hide, and as onnx itself would find them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from components.core.errors import ModelpressError
from components.core.onnx_external_data import ENTRY, MESSAGES, external_locations


def messages_that_can_hold_a_tensor() -> dict[str, dict[int, str]]:
    """Return the table MESSAGES should be, from onnx's own descriptors."""
    fields: dict[str, dict[int, str]] = {}
    waiting: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in fields:
            kinds = {field.number: field.message_type for field in message.fields if field.message_type is not None}
            fields[message.name] = {number: kind.name for number, kind in kinds.items()}
            waiting += kinds.values()
    holding = {"TensorProto"}
    while more := {name for name in fields.keys() - holding if holding & {*fields[name].values()}}:
        holding |= more
    table = {name: {n: kind for n, kind in fields[name].items() if kind in holding} for name in holding}
    external_data = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number
    return {**table, "TensorProto": {external_data: ENTRY}}


def test_table_of_fields_is_onnxs_own() -> None:
    assert {name: dict(fields) for name, fields in MESSAGES.items()} == messages_that_can_hold_a_tensor()


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"offset": "0", "location": location, "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_initializer(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def in_constant(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_subgraph(model: onnx.ModelProto, tensor: TensorProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "inner", [], [], [tensor])
    node = helper.make_node("If", ["q"], ["r"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([node], "outer", [], [])
    model.graph.node.append(helper.make_node("Loop", ["a", "b"], ["d"], body=outer))


def in_list_of_tensors(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("X", [], ["x"], values=[tensor]))


def in_sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(tensor)


def in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.functions.add().node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_training_info(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().algorithm.initializer.append(tensor)


PLACES = [in_initializer, in_constant, in_subgraph, in_list_of_tensors, in_sparse, in_function, in_training_info]


@pytest.mark.parametrize("place", PLACES)
def test_location_is_found_wherever_a_tensor_can_stand(tmp_path: Path, place) -> None:  # type: ignore[no-untyped-def]
    model = helper.make_model(helper.make_graph([], "g", [], []))
    place(model, external("../../etc/passwd"))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert set(external_locations(path)) == {"../../etc/passwd"}


def test_location_that_comes_twice_is_found_twice_since_readers_may_take_either(tmp_path: Path) -> None:
    tensor = external("good")
    tensor.external_data.add(key="location", value="../evil")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert sorted(external_locations(path)) == ["../evil", "good"]


def test_graph_that_only_speaks_of_a_location_has_none(tmp_path: Path) -> None:
    model = helper.make_model(helper.make_graph([], "location", [], []), doc_string="location: ../x")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_locations(path) == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_walked_to_the_end_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data[:at] + b"location" + data[at:])
    with suppress(ModelpressError):  # nothing else may come out, and it must come to an end
        external_locations(path)
