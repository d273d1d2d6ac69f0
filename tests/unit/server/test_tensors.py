"""Tensors of every datatype, out and in again."""

from __future__ import annotations

import contextlib

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core.bundle import GraphInfo, TensorInfo
from deploy.server.refusals import Refusal
from deploy.server.requests import parse_json
from deploy.server.tensors import DATATYPES, InferRequest, read_tensors, wanted_outputs, write_tensors

NUMPY = {"float": "float32", "double": "float64", "string": "object"}
KINDS = sorted(set(DATATYPES) - {"float32", "float64"})


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    kind = draw(st.sampled_from(KINDS))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    if kind == "string":
        texts = draw(st.lists(st.text(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        return kind, np.array(texts, object).reshape(shape)
    dtype = np.dtype(NUMPY.get(kind, kind))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return kind, draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **finite)))


@given(arrays(), st.booleans())
@example(("uint64", np.array([0, 2**63], np.uint64)), False)  # a list of both becomes floats if numpy may choose
def test_array_comes_back_as_it_was(kind_and_array: tuple[str, np.ndarray], binary: bool) -> None:
    kind, array = kind_and_array
    tensor = TensorInfo("x", kind, tuple(f"d{axis}" for axis in range(array.ndim)))
    graph = GraphInfo("", (tensor,), (tensor,), 20)
    outputs, tail = write_tensors({"x": array}, graph, {"x": binary})
    request = parse_json(orjson.dumps({"inputs": outputs}), InferRequest)
    found = read_tensors(request, b"".join(tail), graph, max_rows=100)["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=64), st.integers(-1, 80), st.sampled_from(sorted(DATATYPES.values())))
def test_bytes_are_read_or_refused_whatever_they_are(data: bytes, size: int, datatype: str) -> None:
    kind = next(name for name, known in DATATYPES.items() if known == datatype)
    tensor = TensorInfo("x", kind, ("n",))
    request = InferRequest(
        inputs=[{"name": "x", "shape": [3], "datatype": datatype, "parameters": {"binary_data_size": size}}]
    )
    with contextlib.suppress(Refusal):
        found = read_tensors(request, data, GraphInfo("", (tensor,), (), 20), max_rows=100)["x"]
        assert found.shape == (3,)


@pytest.mark.parametrize("size", [2**31, 2**62, 2**63, 2**64 - 1])
def test_axis_that_no_array_can_have_is_refused_though_nothing_is_sent(size: int) -> None:
    body = {"inputs": [{"name": "x", "shape": [0, size], "datatype": "INT64", "data": []}]}
    graph = GraphInfo("", (TensorInfo("x", "int64", ("rows", "length")),), (), 20)
    with pytest.raises(Refusal, match=r"^x: shape \[0, \d+\], expected"):
        read_tensors(InferRequest.model_validate(body), memoryview(b""), graph, 32)


def test_axes_of_one_name_must_agree() -> None:
    graph = GraphInfo("", (TensorInfo("a", "int64", ("n",)), TensorInfo("b", "int64", ("n",))), (), 20)
    request = InferRequest(
        inputs=[
            {"name": "a", "shape": [1], "datatype": "INT64", "data": [1]},
            {"name": "b", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        ]
    )
    with pytest.raises(Refusal, match="b: n is 2 here and 1 in another input"):
        read_tensors(request, b"", graph, max_rows=100)


def test_unknown_output_is_refused_and_binary_is_chosen_by_output() -> None:
    graph = GraphInfo("", (), (TensorInfo("y", "int64", ("n",)), TensorInfo("z", "int64", ("n",))), 20)
    outputs = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}]
    request = InferRequest(inputs=[], outputs=outputs, parameters={"binary_data_output": True})
    assert wanted_outputs(request, graph) == {"y": False, "z": True}
    with pytest.raises(Refusal, match="no output 'w'"):
        wanted_outputs(InferRequest(inputs=[], outputs=[{"name": "w"}]), graph)
