"""torch.export -> ONNX, one graph a GraphSpec; shapes that only held for the example are dropped."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch
from onnxscript import optimizer

from components.core.task import GraphSpec

OPSET = 20
_NO_LIMIT = 1 << 40


def to_onnx(spec: GraphSpec) -> onnx.ModelProto:
    """Return the graph of a module in evaluation mode, with the names its spec gives.

    Raises:
        RuntimeError: torch cannot export the module (its message says which operation).
    """
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spec.module.eval(),
            spec.example,
            dynamo=True,
            dynamic_shapes=spec.dynamic,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    # fold what depends on weights alone (a recurrent operator's gates put in ONNX's order), however large
    optimizer.fold_constants(program.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    model = onnx.ModelProto.FromString(program.model_proto.SerializeToString())
    del model.graph.value_info[:]
    for node in model.graph.node:  # source lines and module paths: megabytes of text that differ between machines
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.producer_version = ""
    return model
