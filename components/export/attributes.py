"""A number that an ONNX node may state or leave at its default."""

from __future__ import annotations

from onnx import NodeProto, helper


def attribute(node: NodeProto, name: str, default: float) -> float:
    """Return a node's number, or what it is where the node does not say."""
    for found in node.attribute:
        if found.name == name:
            value: float = helper.get_attribute_value(found)
            return value
    return default
