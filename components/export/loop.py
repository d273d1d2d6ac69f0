"""Start, body and finish graphs glued into one: an ONNX Loop whose weights stand once, in the outermost graph.

ONNX operator Loop: https://onnx.ai/onnx/operators/onnx__Loop.html
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from components.core.task import GraphSpec, LoopSpec
from components.export.initializers import share_initializers
from components.export.torch_to_onnx import OPSET, to_onnx

IR_VERSION = 10  # what opset 20 asks for; older runtimes refuse a newer one


def build_graph(spec: GraphSpec | LoopSpec) -> ModelProto:
    """Return the fp32 (or half-precision) ONNX model of a task's graph."""
    if isinstance(spec, GraphSpec):
        return to_onnx(spec)
    return glue(spec, to_onnx(spec.start), to_onnx(spec.body), to_onnx(spec.finish))


def glue(spec: LoopSpec, start: ModelProto, body: ModelProto, finish: ModelProto) -> ModelProto:
    """Return one model of three.

    Values are renamed apart: the start's keep their names (the body reads its constants from the scope around it),
    the body's get the prefix "step/", the finish's "end/" and the loop's results "last/".
    """
    _rename(start.graph, "start/", keep=[*spec.start.inputs, *spec.constants], to={n: f"first/{n}" for n in spec.state})
    _rename(body.graph, "step/", keep=spec.constants, to={})
    _rename(finish.graph, "end/", keep=spec.finish.outputs, to={n: f"last/{n}" for n in spec.finish.inputs})
    loop = helper.make_node(
        "Loop",
        ["loop/max_steps", "loop/always", *(f"first/{name}" for name in spec.state)],
        [f"last/{name}" for name in spec.state],
        name="search",
        body=_loop_body(spec, body.graph),
    )
    graph = helper.make_graph(
        [*start.graph.node, loop, *finish.graph.node],
        spec.name,
        [_named_shape(value) for value in start.graph.input],
        [_named_shape(value) for value in finish.graph.output],
        [
            *start.graph.initializer,
            *body.graph.initializer,
            *finish.graph.initializer,
            helper.make_tensor("loop/max_steps", TensorProto.INT64, [], [spec.max_steps]),
            helper.make_tensor("loop/always", TensorProto.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "modelpress"
    share_initializers(model)
    onnx.checker.check_model(model)
    return model


def _loop_body(spec: LoopSpec, body: GraphProto) -> GraphProto:
    """Return the body as Loop wants it: (step, go on, state) -> (go on, state), constants from the outer scope."""
    inputs = {value.name.removeprefix("step/"): value for value in body.input}
    go_on = helper.make_tensor_value_info("step/was_on", TensorProto.BOOL, [])
    state_in = _free_shapes(inputs[name] for name in spec.state)
    outputs = _free_shapes(body.output)
    outputs[0] = helper.make_tensor_value_info(outputs[0].name, TensorProto.BOOL, [])
    return helper.make_graph(list(body.node), "step", [inputs["step"], go_on, *state_in], outputs)


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


def _rename(graph: GraphProto, prefix: str, keep: Iterable[str], to: dict[str, str]) -> None:
    names = {**{name: name for name in keep}, **to}

    def new(name: str) -> str:
        return names.get(name, prefix + name) if name else ""

    for node in graph.node:
        assert not any(attribute.HasField("g") for attribute in node.attribute), "a part of a loop holds no loop"
        node.name = prefix + node.name
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = new(value.name)
