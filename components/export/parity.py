"""Proof that an exported graph answers as its torch model does: both run on the same inputs, over a grid of shapes.

A loop's whole last state is compared too (for a Transformer every key and value it ever computed), so that a graph
which errs without changing a token is still found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, helper

from components.core.errors import ProofError
from components.core.task import GraphSpec, LoopSpec, Task, TaskDataset
from components.core.tolerance import Tolerance
from components.export.torch_session import run_eagerly
from components.inference.predictor import predictor_class
from components.inference.session import open_session

BATCH_SIZES = (1, 3, 32)
LENGTH_QUANTILES = (0.0, 0.5, 1.0)  # shortest, middling, longest inputs


@dataclass
class ComparingSession:
    """Runs a graph in torch and in ONNX Runtime, notes how far they differ, and answers as ONNX Runtime does."""

    spec: GraphSpec | LoopSpec
    graph: ModelProto
    rows: int = 0
    equal_rows: int = 0
    max_abs_diff: float | None = None  # None until a batch's answers and hypotheses were all equal, and had floats left
    floats: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # answers that can't be compared as equal
    shapes: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._session = open_session(_with_state(self.spec, self.graph).SerializeToString())
        self._names = [*_last(self.spec).outputs, *(self.spec.state if isinstance(self.spec, LoopSpec) else [])]

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        """Compare all outputs (and a loop's last state); return those asked for."""
        expected = run_eagerly(self.spec, {name: torch.from_numpy(value) for name, value in inputs.items()})
        got = dict(zip(self._names, self._session.run(None, inputs), strict=True))
        answers = _last(self.spec).outputs
        for name in answers:
            _check_comparable(name, got[name], expected[name].numpy())
        equal = np.logical_and.reduce([_equal_rows(got[name], expected[name].numpy()) for name in answers])
        self.rows, self.equal_rows = self.rows + len(equal), self.equal_rows + int(equal.sum())
        if all(np.issubdtype(got[name].dtype, np.floating) for name in answers):
            self.floats += [(got[name], expected[name].numpy()) for name in answers]
        self.shapes += [list(value.shape) for value in inputs.values()]
        pairs = [(got[name], expected[name].numpy()) for name in self._names]
        floats = [pair for pair in pairs if _hold_floats(*pair)]
        # after another token, what follows may rightly differ: in a beam, of hypotheses that are not the answer too
        if not (equal.all() and all(np.array_equal(*pair) for pair in pairs if not _hold_floats(*pair))):
            floats = [pair for pair in floats if _lost_numbers(*pair)]
        differences = [_difference(*pair) for pair in floats]
        self.max_abs_diff = max([*differences, self.max_abs_diff or 0.0]) if differences else self.max_abs_diff
        return [got[name] for name in (outputs or answers)]


def prove(
    task: Task,
    specs: Sequence[GraphSpec | LoopSpec],
    graphs: Mapping[str, ModelProto],
    examples: TaskDataset,
    assets: Path,
    options: Mapping[str, Any],
    tolerance: Tolerance,
) -> dict[str, Any]:
    """Run real examples of several lengths at several batch sizes through both; return the measured differences.

    Raises:
        ProofError: they differ by more than the tolerance; the message gives both numbers.
    """
    sessions = {spec.name: ComparingSession(spec, graphs[spec.name]) for spec in specs}
    predictor = predictor_class(task.predictor)(sessions, assets, options)
    inputs = examples.inputs()
    for rows in _grid(examples):
        predictor.predict([inputs[row] for row in rows])
    differences = [s.max_abs_diff for s in sessions.values() if s.max_abs_diff is not None]
    agreements = [s.equal_rows / s.rows for s in sessions.values() if not s.floats]
    floats = [_relative_difference(s.floats) for s in sessions.values() if s.floats]
    relative = float(np.max(floats)) if floats else None  # NaN where one of them is
    measured: dict[str, Any] = {
        "max_abs_diff": float(f"{max(differences):.3g}") if differences else None,
        "agreement": round(min(agreements), 4) if agreements else None,
        "relative_difference": float(f"{relative:.3g}") if relative is not None else None,
        "answers_compared": sum(s.rows for s in sessions.values()),
        "grid": [shape for s in sessions.values() for shape in s.shapes],
    }
    if differences and max(differences) > tolerance.max_abs_diff:
        raise ProofError(
            f"the graph's numbers differ by {measured['max_abs_diff']}, allowed is {tolerance.max_abs_diff}"
        )
    if relative is not None and not relative <= tolerance.relative_difference:
        raise ProofError(
            f"the graph's answers differ by {measured['relative_difference']} of their spread, allowed is "
            f"{tolerance.relative_difference}"
        )
    if agreements and measured["agreement"] < tolerance.agreement:
        raise ProofError(f"{measured['agreement']:.1%} of the answers agree, {tolerance.agreement:.1%} are demanded")
    return measured


def _grid(examples: TaskDataset) -> list[list[int]]:
    """Return rows to run together: each batch size at each part of the lengths' range."""
    lengths = examples.lengths()
    order = np.arange(len(examples)) if lengths is None else np.argsort(lengths[:, -1], kind="stable")
    batches = []
    for size in (min(size, len(order)) for size in BATCH_SIZES):
        for quantile in LENGTH_QUANTILES:
            start = int(quantile * (len(order) - size))
            batches.append(order[start : start + size].tolist())
    return batches


def _last(spec: GraphSpec | LoopSpec) -> GraphSpec:
    return spec.finish if isinstance(spec, LoopSpec) else spec


def _with_state(spec: GraphSpec | LoopSpec, graph: ModelProto) -> ModelProto:
    """Return the graph with a loop's last state among its outputs."""
    if not isinstance(spec, LoopSpec):
        return graph
    shown = ModelProto()
    shown.CopyFrom(graph)
    (loop,) = (node for node in shown.graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    carried = dict(zip(loop.output, body.output[1:], strict=True))
    for name, value in ((f"last/{name}", carried[f"last/{name}"]) for name in spec.state):
        shown.graph.output.append(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, None))
    return shown


def _check_comparable(name: str, got: np.ndarray, expected: np.ndarray) -> None:
    """Refuse what no tolerance is for; how long an answer is, its second axis, may follow from what it says.

    Raises:
        ProofError: another kind, another shape, or no number where torch has one.
    """
    forms = [(value.dtype.kind, value.ndim, value.shape[:1], value.shape[2:]) for value in (got, expected)]
    if forms[0] != forms[1]:
        here, there = (f"{value.dtype} {list(value.shape)}" for value in (got, expected))
        raise ProofError(f"{name}: the graph gives {here}, torch {there}")
    if np.issubdtype(got.dtype, np.floating) and _lost_numbers(got, expected):
        raise ProofError(f"{name}: the graph gives no number where torch does")


def _lost_numbers(got: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether there is infinity or no number where all of torch's are finite."""
    return bool(np.isfinite(expected).all() and not np.isfinite(got).all())


def _equal_rows(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return, for each row, whether whole numbers are the same (floats are compared by difference, not here)."""
    if got.shape != expected.shape:
        return np.zeros(len(expected), bool)
    if np.issubdtype(got.dtype, np.floating):
        return np.ones(len(expected), bool)
    same: np.ndarray = (got == expected).reshape(len(got), -1).all(1)
    return same


def _relative_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the root mean square difference of float answers as a share of how they vary among themselves."""
    if any(got.shape != expected.shape for got, expected in pairs):
        return float("inf")
    got, expected = (np.concatenate([pair[i].ravel() for pair in pairs]).astype(np.float64) for i in (0, 1))
    spread = float(expected.std())
    difference = float(np.sqrt(((got - expected) ** 2).mean()))
    return difference / spread if spread else difference


def _hold_floats(got: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether there is anything to compare: of a search whose sentences have all ended, no state is left."""
    return bool(np.issubdtype(got.dtype, np.floating) and (got.size or expected.size))


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    if got.shape != expected.shape:
        return float("inf")
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64)).max()
    return float("inf") if np.isnan(difference) else float(difference)
