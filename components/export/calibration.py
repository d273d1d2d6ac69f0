"""A float graph watched on examples of train: the range of each activation, and a few inputs kept to judge layers by.

Examples go through the task's own predictor in small parts, and of an activation only its histogram stays: ten times
the examples take ten times as long and no more memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from components.core.errors import ModelpressError
from components.core.params import Calibration
from components.core.task import DividedDataset, Task, TaskDataset
from components.export.initializers import subgraphs
from components.export.qdq import range_tensors
from components.export.ranges import Range, StreamingHistogram, find_range
from components.inference.predictor import predictor_class
from components.inference.session import open_session

STRIDE = 32  # examples at a time
JUDGED = 64  # examples kept, to rank layers and look for saturation

Feeds = Mapping[str, np.ndarray]


@dataclass
class WatchingSession:
    """Answers as the graph does, counts what its activations are, keeps the first inputs."""

    graph: ModelProto
    histograms: dict[str, StreamingHistogram] = field(default_factory=dict)
    kept: list[Feeds] = field(default_factory=list)
    seen: int = 0

    def __post_init__(self) -> None:
        self.histograms = {name: StreamingHistogram() for name in range_tensors(self.graph.graph)}
        self._session = open_session(showing(self.graph, self.histograms, TensorProto.FLOAT).SerializeToString())
        self._answers = [value.name for value in self.graph.graph.output]

    def run(self, outputs: Sequence[str] | None, inputs: Feeds) -> list[Any]:
        """Return the outputs asked for (None: all)."""
        names = [*(outputs or self._answers)]
        values = self._session.run([*names, *self.histograms], inputs)
        for name, value in zip(self.histograms, values[len(names) :], strict=True):
            self.histograms[name].add(value)
        if self.seen < JUDGED:
            self.kept.append(dict(inputs))
        self.seen += len(next(iter(inputs.values())))
        return values[: len(names)]


@dataclass(frozen=True)
class Watched:
    """What is known of one graph: the range of each tensor, and inputs it was given."""

    ranges: Mapping[str, Range]
    feeds: Sequence[Feeds]


def watch(
    task: Task,
    graphs: Mapping[str, ModelProto],
    train: TaskDataset,
    assets: Path,
    options: Mapping[str, Any],
    calibration: Calibration,
) -> dict[str, Watched]:
    """Run the calibration examples through float graphs without loops; return what was seen of each graph.

    Raises:
        ModelpressError: a graph holds a loop, whose layers run on values no predictor sees.
    """
    for name, graph in graphs.items():
        if any(subgraphs(node) for node in graph.graph.node):
            raise ModelpressError(f"graph {name!r}: it holds a loop, which has no static int8; use method: dynamic")
    sessions = {name: WatchingSession(graph) for name, graph in graphs.items()}
    predictor = predictor_class(task.predictor)(sessions, assets, options)
    for inputs in calibration_inputs(train, calibration):
        predictor.predict(inputs)
    return {
        name: Watched({t: find_range(h, calibration) for t, h in session.histograms.items()}, session.kept)
        for name, session in sessions.items()
    }


def calibration_inputs(train: TaskDataset, calibration: Calibration) -> Iterator[list[Any]]:
    """Yield the chosen inputs in parts; which ones depends on the seed and how many there are alone.

    Raises:
        ModelpressError: the training data has no inputs for a predictor, as text of which vectors are learnt.
    """
    everything = None if isinstance(train, DividedDataset) else train.inputs()
    count = len(train) if everything is None else len(everything)
    if not count:
        raise ModelpressError("quantize: train has no inputs to calibrate with; use method: dynamic")
    order = np.random.default_rng(calibration.seed).permutation(count)[: calibration.samples]
    for start in range(0, len(order), STRIDE):
        rows = order[start : start + STRIDE].tolist()
        if isinstance(train, DividedDataset):
            yield list(train.rows(rows).inputs())
        else:
            assert everything is not None
            yield [everything[row] for row in rows]


def showing(graph: ModelProto, names: Any, kind: int) -> ModelProto:
    """Return a graph with these tensors among its outputs."""
    shown = ModelProto()
    shown.CopyFrom(graph)
    present = {value.name for value in shown.graph.output}
    shown.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in names if name not in present)
    return shown
