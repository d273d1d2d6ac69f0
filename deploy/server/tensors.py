"""Tensors as the Open Inference Protocol writes them: JSON numbers, or bytes behind the JSON (binary tensor extension).

https://github.com/kserve/open-inference-protocol and Triton's extension_binary_data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.core.bundle import GraphInfo, TensorInfo
from components.core.errors import did_you_mean
from deploy.server.refusals import Refusal

# ONNX's names for types -> the protocol's
DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float": "FP32", "float32": "FP32",
    "double": "FP64", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
_NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
    "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip


MOST = 2**31  # of one axis: far more than a request can hold, and a product of some fits an index


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())
    parameters: dict[str, Any] = {}


class RequestInput(_Part):
    """One tensor sent: its values in `data`, or behind the JSON in `binary_data_size` bytes."""

    name: str
    shape: list[int] = Field(max_length=16)
    datatype: str
    data: list[Any] | None = None


class RequestOutput(_Part):
    """One tensor asked for."""

    name: str


class InferRequest(_Part):
    """The JSON part of an inference request."""

    id: str | None = None
    inputs: list[RequestInput] = Field(max_length=256)
    outputs: list[RequestOutput] = Field(default=[], max_length=256)


def describe(tensor: TensorInfo) -> dict[str, Any]:
    """Return a tensor's name, datatype and shape (-1 where a size is free) for a model's metadata."""
    shape = [size if isinstance(size, int) and size >= 0 else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": DATATYPES.get(tensor.dtype, tensor.dtype.upper()), "shape": shape}


def read_tensors(request: InferRequest, binary: bytes, graph: GraphInfo, max_rows: int) -> dict[str, np.ndarray]:
    """Return the graph's input arrays, checked: names, datatypes, shapes, number of values, rows of the first axis.

    Raises:
        Refusal: 400 and what is wrong with which tensor.
    """
    known = {tensor.name: tensor for tensor in graph.inputs}
    arrays: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    rest = memoryview(binary)
    for item in request.inputs:
        if item.name not in known:
            raise Refusal(400, f"no input {item.name[:80]!r}{did_you_mean(item.name[:80], known)}")
        if item.name in arrays:
            raise Refusal(400, f"{item.name}: given twice")
        _check(item, known[item.name], sizes, max_rows)
        arrays[item.name], rest = _array(item, rest)
    missing = [name for name in known if name not in arrays]
    if missing:
        raise Refusal(400, f"missing input: {', '.join(missing)}")
    if len(rest):
        raise Refusal(400, f"{len(rest)} bytes behind the last tensor belong to none")
    return arrays


def _check(item: RequestInput, tensor: TensorInfo, sizes: dict[str, int], max_rows: int) -> None:
    """Refuse another datatype or shape than the graph's; `sizes` remembers named axes, which must agree."""
    expected = describe(tensor)
    if item.datatype != expected["datatype"]:
        raise Refusal(400, f"{item.name}: datatype {item.datatype[:20]!r}, expected {expected['datatype']}")
    fits = len(item.shape) == len(tensor.shape) and all(
        0 <= given < MOST and wanted in (-1, given) for given, wanted in zip(item.shape, expected["shape"], strict=True)
    )
    if not fits:
        raise Refusal(400, f"{item.name}: shape {item.shape}, expected {expected['shape']} (-1: any size)")
    if expected["shape"][:1] == [-1] and item.shape[0] > max_rows:
        raise Refusal(400, f"{item.name}: {item.shape[0]} rows, this server takes {max_rows} at a time; split them")
    for given, name in zip(item.shape, tensor.shape, strict=True):
        if isinstance(name, str) and sizes.setdefault(name, given) != given:
            raise Refusal(400, f"{item.name}: {name} is {given} here and {sizes[name]} in another input")


def _array(item: RequestInput, rest: memoryview) -> tuple[np.ndarray, memoryview]:
    count, size = math.prod(item.shape), item.parameters.get("binary_data_size")
    if size is None:
        if item.data is None:
            raise Refusal(400, f"{item.name}: no data; give data, or binary_data_size and bytes behind the JSON")
        return _from_json(item.data, item, count).reshape(item.shape), rest
    if item.data is not None:
        raise Refusal(400, f"{item.name}: both data and binary_data_size; give one")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise Refusal(400, f"{item.name}: binary_data_size {str(size)[:40]}, but {len(rest)} bytes are left")
    return _from_bytes(rest[:size], item, count).reshape(item.shape), rest[size:]


def _from_json(data: list[Any], item: RequestInput, count: int) -> np.ndarray:
    dtype = _NUMPY[item.datatype]
    try:
        # texts as objects: numpy's own would lose zeros at their ends
        values = np.asarray(data, np.object_ if item.datatype == "BYTES" else None) if data else np.zeros(0, dtype)
        if item.datatype == "UINT64" and values.dtype.kind == "f":
            values = _exact(data)
    except (ValueError, OverflowError):  # ragged, or beyond 64 bits
        raise Refusal(400, f"{item.name}: data is not an array of {item.datatype}") from None
    if values.size != count:
        raise Refusal(400, f"{item.name}: {values.size} values, shape {item.shape} needs {count}")
    if values.size and not _holds(values, item.datatype):
        raise Refusal(400, f"{item.name}: data holds values that are no {item.datatype}")
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _exact(data: list[Any]) -> np.ndarray:
    """Return integers of which some are below 2**63 and some above: numpy makes floats of such a list by itself.

    Raises:
        OverflowError: one is below 0 or beyond 64 bits.
    """
    values = np.asarray(data, np.object_)
    whole = all(type(value) is int for value in values.ravel())
    return values.astype(np.uint64) if whole else np.asarray(data)


def _holds(values: np.ndarray, datatype: str) -> bool:
    kind, dtype = values.dtype.kind, np.dtype(_NUMPY[datatype])
    if datatype == "BYTES":
        return all(isinstance(text, str) for text in values.ravel())
    if datatype == "BOOL":
        return kind == "b"
    if dtype.kind == "f":
        return kind in "iuf"
    limits = np.iinfo(dtype.name)
    return kind in "iu" and limits.min <= int(values.min()) and int(values.max()) <= limits.max


def _from_bytes(data: memoryview, item: RequestInput, count: int) -> np.ndarray:
    if item.datatype == "BYTES":
        texts = list(_texts(data, item.name))
        if len(texts) != count:
            raise Refusal(400, f"{item.name}: {len(texts)} texts, shape {item.shape} needs {count}")
        return np.array(texts, np.object_)
    dtype = np.dtype(_NUMPY[item.datatype]).newbyteorder("<")
    if len(data) != count * dtype.itemsize:
        raise Refusal(400, f"{item.name}: {len(data)} bytes, shape {item.shape} needs {count * dtype.itemsize}")
    if item.datatype == "BOOL":
        return np.frombuffer(data, np.uint8).astype(np.bool_)
    values: np.ndarray = np.frombuffer(data, dtype)
    return values


def _texts(data: memoryview, name: str) -> Iterator[str]:
    position = 0
    while position < len(data):
        end = position + 4
        if end <= len(data):
            end += struct.unpack_from("<I", data, position)[0]
        if end > len(data) or end < position + 4:
            raise Refusal(400, f"{name}: a text's length points behind the data")
        try:
            yield str(data[position + 4 : end], "utf-8")
        except UnicodeDecodeError:
            raise Refusal(400, f"{name}: a text is not UTF-8") from None
        position = end


def write_tensors(
    arrays: Mapping[str, np.ndarray], graph: GraphInfo, binary: Mapping[str, bool]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the response's `outputs` and the bytes that follow the JSON; `binary` says which go there."""
    outputs, tail = [], []
    for tensor in graph.outputs:
        if tensor.name not in arrays:
            continue
        array = arrays[tensor.name]
        item = {**describe(tensor), "shape": list(array.shape)}
        if binary[tensor.name]:
            tail.append(_to_bytes(array, item["datatype"]))
            item["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            item["data"] = array.ravel().tolist()
        outputs.append(item)
    return outputs, tail


def _to_bytes(array: np.ndarray, datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [str(text).encode() for text in array.ravel()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def wanted_outputs(request: InferRequest, graph: GraphInfo) -> dict[str, bool]:
    """Return the outputs to answer with, and whether each goes out as bytes.

    Raises:
        Refusal: 400 an output the graph doesn't have.
    """
    names: Sequence[str] = [tensor.name for tensor in graph.outputs]
    default = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return dict.fromkeys(names, default)
    for output in request.outputs:
        if output.name not in names:
            raise Refusal(400, f"no output {output.name[:80]!r}{did_you_mean(output.name[:80], names)}")
    return {output.name: output.parameters.get("binary_data", default) is True for output in request.outputs}
