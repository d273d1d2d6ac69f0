"""A model's config.pbtxt: protobuf text of Triton's ModelConfig (model_config.proto), which a test parses it with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.core.bundle import GraphInfo, TensorInfo
from components.core.errors import ModelpressError

MODEL_FILE = "model.onnx"
DTYPES = {  # ONNX's names in a manifest -> Triton's
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float": "TYPE_FP32",
    "double": "TYPE_FP64",
}


@dataclass(frozen=True)
class Serving:
    """How Triton is to run a model.

    max_batch: of requests put together, where the graph's first axis allows it. max_delay_us: how long one waits for
    others. instances: copies of the model. versions: how many of the newest are live. threads: of one operator, on CPU.
    """

    max_batch: int = 32
    max_delay_us: int = 1000
    instances: int = 1
    versions: int = 2
    threads: int = 1


def tensors_text(graph: GraphInfo) -> str:
    """Return the part clients depend on: batching or not, names, types and shapes of inputs and outputs."""
    batched = is_batched(graph)
    sides = (("input", graph.inputs), ("output", graph.outputs))
    return "".join(f"{side} [\n{_tensors(tensors, batched)}\n]\n" for side, tensors in sides)


def config_text(name: str, graph: GraphInfo, gpu: bool, serving: Serving, warm_up: Mapping[str, np.ndarray]) -> str:
    """Return config.pbtxt.

    gpu: run on each GPU; on the CPU otherwise. warm_up: one example's inputs as the graph takes them (with their batch
    axis of one), whose bytes lie in warmup/<input>; may be empty.

    Raises:
        ModelpressError: a dtype Triton has not.
    """
    return "".join(_sections(name, graph, gpu, serving, warm_up))


def is_batched(graph: GraphInfo) -> bool:
    """Return whether all inputs and outputs have one and the same free first axis: then requests can share a run."""
    first = {tensor.shape[0] if tensor.shape else 1 for tensor in (*graph.inputs, *graph.outputs)}
    return len(first) == 1 and not isinstance(next(iter(first)), int)


def _sections(
    name: str, graph: GraphInfo, gpu: bool, serving: Serving, warm_up: Mapping[str, np.ndarray]
) -> Iterator[str]:
    batched = is_batched(graph)
    yield f'name: {_quoted(name)}\nbackend: "onnxruntime"\ndefault_model_filename: {_quoted(MODEL_FILE)}\n'
    yield f"max_batch_size: {serving.max_batch if batched else 0}\n"
    yield tensors_text(graph)
    if batched:
        yield f"dynamic_batching {{ max_queue_delay_microseconds: {serving.max_delay_us} }}\n"
    yield f"instance_group [ {{ kind: {'KIND_GPU' if gpu else 'KIND_CPU'} count: {serving.instances} }} ]\n"
    yield f"version_policy {{ latest {{ num_versions: {serving.versions} }} }}\n"
    if not gpu:
        yield _parameter("intra_op_thread_count", serving.threads) + _parameter("inter_op_thread_count", 1)
    if warm_up:
        yield _warm_up(graph, batched, warm_up)


def _tensors(tensors: Sequence[TensorInfo], batched: bool) -> str:
    return ",\n".join(
        f"  {{ name: {_quoted(t.name)} data_type: {_dtype(t)} {_shape(t.shape[batched:])} }}" for t in tensors
    )


def _shape(shape: Sequence[int | str | None]) -> str:
    if not shape:  # Triton has no tensor without axes
        return "dims: [ 1 ] reshape { shape: [ ] }"
    return f"dims: [ {', '.join(str(size) if isinstance(size, int) else '-1' for size in shape)} ]"


def _warm_up(graph: GraphInfo, batched: bool, inputs: Mapping[str, np.ndarray]) -> str:
    parts = []
    for tensor in graph.inputs:
        sizes = inputs[tensor.name].shape[batched:] or (1,)
        parts.append(
            f"    inputs {{ key: {_quoted(tensor.name)} value {{ data_type: {_dtype(tensor)} "
            f"dims: [ {', '.join(map(str, sizes))} ] input_data_file: {_quoted(tensor.name)} }} }}\n"
        )
    return f'model_warmup [\n  {{ name: "golden example" batch_size: 1\n{"".join(parts)}  }}\n]\n'


def _parameter(key: str, value: int) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def _dtype(tensor: TensorInfo) -> str:
    if tensor.dtype not in DTYPES:
        raise ModelpressError(f"{tensor.name}: dtype {tensor.dtype!r} has no place in a Triton model")
    return DTYPES[tensor.dtype]


def _quoted(text: str) -> str:
    return json.dumps(text)  # protobuf text reads JSON's escapes
