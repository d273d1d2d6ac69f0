"""ONNX Runtime sessions: threads stated, providers asked for by name, a clear word when the CPU stands in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from components.core.errors import ModelpressError


class Session(Protocol):
    """What a predictor needs of a graph: ONNX Runtime's sessions, and torch models dressed as one."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]: ...


def open_session(graph: Path | bytes, threads: int = 1, runtime: str = "cpu") -> Session:
    """Return a session for an ONNX file or its bytes.

    threads: of one operator; 0 lets ONNX Runtime choose. runtime: "cpu", or "gpu" for CUDA with the CPU behind it.

    Raises:
        ModelpressError: the file is not a graph this ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        session: Session = onnxruntime.InferenceSession(source, options, providers=_providers(runtime))
    except Exception as error:  # onnxruntime raises plain pybind classes of its own
        name = "the graph" if isinstance(graph, bytes) else graph
        raise ModelpressError(f"{name}: ONNX Runtime cannot load it: {' '.join(str(error).split())[:300]}") from None
    return session


def _providers(runtime: str) -> list[str]:
    import onnxruntime

    if runtime == "gpu":
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]
        print("no CUDA execution provider here: running on the CPU", file=sys.stderr)
    return ["CPUExecutionProvider"]
