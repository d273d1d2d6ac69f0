"""Which other files an ONNX graph would have its weights read from, found without parsing it as a model.

ONNX Runtime refuses a location outside the graph's folder, older ones did not, and none knows which files are sealed.
So the graph's protobuf fields are walked, standard library only. Field numbers: onnx/onnx.proto (a test compares them).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.core.errors import ModelpressError

# message -> {field: message it holds}, for all messages that can hold a tensor, from the model down
MESSAGES: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
ENTRY = "StringStringEntryProto"
KEY, VALUE = 1, 2
_KEYWORD = b"location"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


def external_locations(graph: Path) -> list[str]:
    """Return the locations of all external tensors of an ONNX file, as written there.

    Raises:
        ModelpressError: not a protobuf message.
    """
    if graph.stat().st_size == 0:
        return []  # mmap takes no empty file; ONNX Runtime refuses it
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(_KEYWORD) < 0:
            return []  # the usual case, at the speed of memory
        try:
            return list(_locations(data))
        except (ValueError, IndexError):
            raise ModelpressError(f"{graph}: not an ONNX graph") from None


def _locations(data: mmap.mmap) -> Iterator[str]:
    open_messages = [("ModelProto", 0, len(data))]
    while open_messages:
        message, start, end = open_messages.pop()
        if message == ENTRY:
            yield from _location(data, start, end)
            continue
        for number, first, last in _fields(data, start, end):
            if number in MESSAGES[message]:
                open_messages.append((MESSAGES[message][number], first, last))


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    fields = [(number, data[first:last]) for number, first, last in _fields(data, start, end)]
    if (KEY, _KEYWORD) in fields:
        yield from (value.decode("utf-8", "replace") for number, value in fields if number == VALUE)


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, first byte and end of each field that has a length (messages, text, bytes)."""
    while at < end:
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            _, at = _varint(data, at)
        elif wire_type == _FIXED64:
            at += 8
        elif wire_type == _FIXED32:
            at += 4
        elif wire_type == _BYTES:
            size, at = _varint(data, at)
            if at + size <= end:
                yield number, at, at + size
            at += size
        else:
            raise ValueError("no wire type of proto3")
    if at != end:
        raise ValueError("a field reaches beyond its message")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
