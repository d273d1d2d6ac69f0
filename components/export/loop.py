"""Start, body, shrink and finish graphs glued into one: ONNX Loops, each weight once, in the graph that reads it.

ONNX operator Loop: https://onnx.ai/onnx/operators/onnx__Loop.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from components.core.task import GraphSpec, LoopSpec
from components.export.initializers import share_initializers
from components.export.torch_to_onnx import OPSET, to_onnx

IR_VERSION = 10  # what opset 20 asks for; older runtimes refuse a newer one


def build_graph(spec: GraphSpec | LoopSpec) -> ModelProto:
    """Return the fp32 (or half-precision) ONNX model of a task's graph."""
    if isinstance(spec, GraphSpec):
        return to_onnx(spec)
    parts = {"start": spec.start, "body": spec.body, "finish": spec.finish}
    if spec.shrink:
        parts["shrink"] = spec.shrink
    return glue(spec, {name: to_onnx(part) for name, part in parts.items()})


def glue(spec: LoopSpec, parts: Mapping[str, ModelProto]) -> ModelProto:
    """Return one model of the exported parts; each part's weights stand in its own graph.

    Values are renamed apart by prefixes: "first/" for what the start gives, "last/" for what the loop ends with.
    """
    start, body, finish = (parts[name].graph for name in ("start", "body", "finish"))
    carried = [*spec.constants, *spec.state] if spec.shrink else list(spec.state)
    first = {name: f"first/{name}" for name in carried}
    _rename(start, "start/", {**_same(spec.start.inputs), **_same(spec.constants), **first})
    _rename(finish, "end/", {**_same(spec.finish.outputs), **{name: f"last/{name}" for name in spec.finish.inputs}})
    _rename(body, "step/", _same(spec.constants))
    steps = _loop("step/", body, spec.state)
    if spec.shrink:
        # the steps stand inside a second loop: what they end with is "stopped/", what the shrink makes of it goes round
        shrink = parts["shrink"].graph
        _rename(shrink, "shrink/", {**_same(spec.constants), **{name: f"stopped/{name}" for name in spec.state}})
        inner = helper.make_node("Loop", [_MAX, _ALWAYS, *_named("round/", spec.state)], _named("stopped/", spec.state))
        inner.name = "steps"
        inner.attribute.append(helper.make_attribute("body", steps))
        rounds = _round(spec, inner, shrink)
        loop = helper.make_node("Loop", [_MAX, _ALWAYS, *_named("first/", carried)], _named("last/", carried), "search")
        loop.attribute.append(helper.make_attribute("body", rounds))
    else:
        loop = helper.make_node("Loop", [_MAX, _ALWAYS, *_named("first/", carried)], _named("last/", carried), "search")
        loop.attribute.append(helper.make_attribute("body", steps))
    graph = helper.make_graph(
        [*start.node, loop, *finish.node],
        spec.name,
        [_named_shape(value) for value in start.input],
        [_named_shape(value) for value in finish.output],
        [
            *start.initializer,
            *finish.initializer,
            helper.make_tensor(_MAX, TensorProto.INT64, [], [spec.max_steps]),
            helper.make_tensor(_ALWAYS, TensorProto.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "modelpress"
    share_initializers(model)
    onnx.checker.check_model(model)
    return model


_MAX, _ALWAYS = "loop/max_steps", "loop/always"


def _loop(prefix: str, part: GraphProto, carried: Sequence[str]) -> GraphProto:
    """Return a part as the body Loop wants: (iteration, go on, carried) -> (go on, carried)."""
    inputs = {value.name.removeprefix(prefix): value for value in part.input}
    outputs = _free_shapes(part.output)
    outputs[0] = helper.make_tensor_value_info(outputs[0].name, TensorProto.BOOL, [])
    return helper.make_graph(
        list(part.node),
        prefix.rstrip("/"),
        [*_counter(prefix), *_free_shapes(inputs[n] for n in carried)],
        outputs,
        list(part.initializer),
    )


def _round(spec: LoopSpec, inner: NodeProto, shrink: GraphProto) -> GraphProto:
    """Return the outer loop's body: steps until they stop, then the shrink."""
    types = {value.name: value.type.tensor_type.elem_type for value in shrink.input}
    inputs = [helper.make_tensor_value_info(name, types[name], None) for name in spec.constants]
    inputs += [helper.make_tensor_value_info(f"round/{name}", types[f"stopped/{name}"], None) for name in spec.state]
    outputs = _free_shapes(shrink.output)
    outputs[0] = helper.make_tensor_value_info(outputs[0].name, TensorProto.BOOL, [])
    nodes, weights = [inner, *shrink.node], list(shrink.initializer)
    return helper.make_graph(nodes, "round", [*_counter("round/"), *inputs], outputs, weights)


def _counter(prefix: str) -> list[onnx.ValueInfoProto]:
    """Return the two inputs every loop body has: its iteration and whether it was to go on."""
    return [
        helper.make_tensor_value_info(f"{prefix}iteration", TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{prefix}was_on", TensorProto.BOOL, []),
    ]


def _named(prefix: str, names: Iterable[str]) -> list[str]:
    return [prefix + name for name in names]


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _free_shapes(values: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """Return value infos without shapes: what the loop carries grows, which a fixed shape would forbid."""
    return [helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, None) for v in values]


def _named_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return a value info whose free sizes have names: "batch" for the first axis, the value's own for the others."""
    sizes = [
        axis.dim_value if axis.HasField("dim_value") and i else ("batch" if i == 0 else f"{value.name}_length")
        for i, axis in enumerate(value.type.tensor_type.shape.dim)
    ]
    return helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sizes)


def _rename(graph: GraphProto, prefix: str, names: Mapping[str, str]) -> None:
    """Give every value of a graph a new name: the one in `names`, or its own behind the prefix."""

    def new(name: str) -> str:
        return names.get(name, prefix + name) if name else ""

    for node in graph.node:
        assert not any(attribute.HasField("g") for attribute in node.attribute), "a part of a loop holds no loop"
        node.name = prefix + node.name
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = new(value.name)
