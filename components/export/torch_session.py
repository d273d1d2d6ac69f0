"""A torch model dressed as an ONNX Runtime session, so that one predictor and one score serve both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.task import GraphSpec, LoopSpec


class TorchSession:
    """Runs a graph's own modules eagerly."""

    def __init__(self, spec: GraphSpec | LoopSpec) -> None:
        self.spec = spec

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        """Return the outputs asked for (None: all) as arrays."""
        tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in inputs.items()}
        values = run_eagerly(self.spec, tensors)
        last = self.spec.finish if isinstance(self.spec, LoopSpec) else self.spec
        return [values[name].numpy() for name in (outputs or last.outputs)]


@torch.inference_mode()
def run_eagerly(spec: GraphSpec | LoopSpec, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a graph's outputs by name; of a loop also its last state."""
    if isinstance(spec, GraphSpec):
        return dict(zip(spec.outputs, _as_tuple(spec.module(*_arguments(spec, inputs))), strict=True))
    values = dict(inputs)
    values.update(run_eagerly(spec.start, values))
    again = True
    while again:
        for _ in range(spec.max_steps):
            if not _advance(spec.body, values):
                break
        again = spec.shrink is not None and _advance(spec.shrink, values)
    values.update(run_eagerly(spec.finish, values))
    return values


def _advance(part: GraphSpec, values: dict[str, Tensor]) -> bool:
    """Run a part of a loop, put what it gives in the place of what was, return its first output: whether to go on."""
    new = run_eagerly(part, values)
    go_on = new.pop(part.outputs[0])
    values.update({name.removeprefix("next_"): value for name, value in new.items()})
    return bool(go_on)


def _arguments(spec: GraphSpec, values: Mapping[str, Tensor]) -> list[Any]:
    """Return the module's positional arguments: named tensors in the nesting of the example."""
    names = iter(spec.inputs)
    return [
        [values[next(names)] for _ in part] if isinstance(part, list) else values[next(names)] for part in spec.example
    ]


def _as_tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
