"""A float graph made static int8: calibrated, exact on its targets, as few layers in float as the tolerance asks for.

Steps: forms that have int8 operators; ranges from calibration examples; weights reduced where a target's 16-bit sums
need it; layers ranked by their error; then, from all int8 on, one more layer in float until dev is as good as agreed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from components.core.errors import ProofError
from components.core.params import Quantize
from components.core.task import Task, TaskDataset
from components.core.tolerance import Tolerance
from components.evaluation.quality import judged, relative_loss
from components.export.calibration import Watched, watch
from components.export.compact import compact
from components.export.int8_forms import with_int8_forms
from components.export.learned_ranges import Learned, learned_ranges
from components.export.qdq import SIXTEEN_BIT, layers, quantize_qdq
from components.export.saturation import HIGHEST, PairSums, pair_sums
from components.export.sensitivity import LayerError, rank_layers
from components.inference.predictor import predictor_class
from components.inference.session import open_session

HEADROOM = 0.75  # of 16 bits: what a layer's sums may reach on calibration data without being reduced


@dataclass(frozen=True)
class Judge:
    """How good graphs are at the task: the metric's values on dev, and how much of it may be lost."""

    task: Task
    dev: TaskDataset
    assets: Path
    options: Mapping[str, Any]
    tolerance: Tolerance

    def scores(self, graphs: Mapping[str, ModelProto]) -> dict[str, float]:
        """Return {metric: value} on dev."""
        sessions = {name: open_session(graph.SerializeToString()) for name, graph in graphs.items()}
        return self.task.score(predictor_class(self.task.predictor)(sessions, self.assets, self.options), self.dev)


def quantize_static(
    graphs: Mapping[str, ModelProto],
    quantize: Quantize,
    train: TaskDataset,
    judge: Judge,
    learned: Learned | None = None,
) -> tuple[dict[str, ModelProto], dict[str, Any]]:
    """Return the graphs in int8 and what is to be known of them, for the manifest.

    graphs: float ones without loops. train: where calibration examples are drawn from. learned: of a model that was
    trained to round; calibration then gives the few ranges it lacks, and its scores are what dev is held against.

    Raises:
        ModelpressError: a graph holds a loop.
        ProofError: not one layer can be int8 within the drop.
    """
    formed = {name: with_int8_forms(graph) for name, graph in graphs.items()}
    watched = watch(judge.task, formed, train, judge.assets, judge.options, quantize.calibration)
    taken = {name: learned_ranges(formed[name].graph, learned.ranges if learned else {}) for name in graphs}
    watched = {name: replace(seen, ranges={**seen.ranges, **taken[name]}) for name, seen in watched.items()}
    candidates = {
        name: _Candidate(formed[name], watched[name], SIXTEEN_BIT in quantize.targets, learned is not None)
        for name in graphs
    }
    ranking = sorted(
        ((error, name) for name, candidate in candidates.items() for error in candidate.ranking(graphs[name])),
        key=lambda found: (-found[0].error, found[1], found[0].layer),
    )
    expected = learned.scores if learned else judge.scores(graphs)
    quantized, tried = _fewest_in_float(candidates, ranking, judge, expected)
    in_float = tried[-1]["in_float"]
    facts = {
        "method": "static",
        "calibration": {**quantize.calibration.model_dump(), "split": "train"},
        "learned_ranges": sum(map(len, taken.values())),
        "ranking": [_ranked(error, name, candidates, place < in_float) for place, (error, name) in enumerate(ranking)],
        "tried": tried,
        "certificates": _certificates(quantize, candidates.values()),
    }
    for graph in quantized.values():
        compact(graph)
    return quantized, facts


class _Candidate:
    """One graph, to be written in int8 with any of its layers in float; `reduced` layers cannot leave 16 bits."""

    def __init__(self, graph: ModelProto, watched: Watched, sixteen_bits: bool, trained_reduced: bool) -> None:
        self.graph, self.watched, self.sixteen_bits = graph, watched, sixteen_bits
        # a model that was trained to round has learned with reduced weights
        trained = {layer.name for layer in layers(graph.graph)} if trained_reduced else set()
        self.reduced: set[str] = set()
        self.sums: list[PairSums] = []
        unreduced = pair_sums(self.write(set()), watched.feeds)
        self.saturated_unreduced = sum(found.saturated for found in unreduced)
        if sixteen_bits:
            self.reduced = {found.layer for found in unreduced if not _has_headroom(found)}
        self.reduced |= trained

    def write(self, in_float: set[str]) -> ModelProto:
        """Return the graph with all layers but these in int8."""
        return quantize_qdq(self.graph, self.watched.ranges, in_float, self.reduced)

    def certified(self, in_float: set[str]) -> ModelProto:
        """Return the graph once its 16-bit sums are exact on calibration data; a layer that leaves them is reduced."""
        while True:
            written = self.write(in_float)
            self.sums = pair_sums(written, self.watched.feeds)
            leaving = {found.layer for found in self.sums if found.saturated}
            if not self.sixteen_bits or not leaving:
                return written
            self.reduced |= leaving

    def ranking(self, original: ModelProto) -> list[LayerError]:
        """Return the layers by what each alone in int8 does to the logits of the float graph."""
        return rank_layers(original, self.watched.feeds, self.write)


def _has_headroom(found: PairSums) -> bool:
    return max(found.highest, -found.lowest) <= HEADROOM * HIGHEST


def _fewest_in_float(
    candidates: Mapping[str, _Candidate], ranking: Sequence[tuple[LayerError, str]], judge: Judge, float_scores: Any
) -> tuple[dict[str, ModelProto], list[dict[str, Any]]]:
    """Return the first graphs that lose no more than agreed, layers left in float from the top; and what was tried.

    Raises:
        ProofError: every layer would have to stay in float.
    """
    tried: list[dict[str, Any]] = []
    for count in range(len(ranking)):
        left = {name: {error.layer for error, graph in ranking[:count] if graph == name} for name in candidates}
        graphs = {name: candidate.certified(left[name]) for name, candidate in candidates.items()}
        scores = judge.scores(graphs)
        metric = judge.task.metric
        loss = max((relative_loss(metric, v, float_scores[k]) for k, v in judged(metric, scores).items()), default=0)
        tried.append({"in_float": count, "dev": {k: round(v, 4) for k, v in scores.items()}, "loss": round(loss, 5)})
        print(
            f"int8 with {count} of {len(ranking)} layers in float: dev {tried[-1]['dev']}, lost {loss:.2%}", flush=True
        )
        if loss <= judge.tolerance.quality_drop:
            return graphs, tried
    if not ranking:
        raise ProofError("static int8: the graph has no layer that could be int8; take fp32")
    raise ProofError(
        f"static int8: not one of {len(ranking)} layers can be int8 while dev loses at most "
        f"{judge.tolerance.quality_drop:.2%}; allow more, train with quantize_aware, or take fp32"
    )


def _ranked(error: LayerError, graph: str, candidates: Mapping[str, _Candidate], in_float: bool) -> dict[str, Any]:
    reduced = error.layer in candidates[graph].reduced
    precision = "float" if in_float else "int8, reduced" if reduced else "int8"
    return {"graph": graph, "layer": error.layer, "error": error.error, "precision": precision}


def _certificates(quantize: Quantize, candidates: Collection[_Candidate]) -> dict[str, Any]:
    """Return for each target why the graphs are exact there."""
    found = [layer for candidate in candidates for layer in candidate.sums]
    certificates: dict[str, dict[str, Any]] = {
        "x86-64-vnni": {"sums": "32 bits"},
        SIXTEEN_BIT: {
            "sums": "16 bits, saturating",
            "layers": len(found),
            # these are exact for every input, the others on the calibration examples that were looked at
            "proven_layers": sum(layer.at_risk == 0 for layer in found),
            "saturated_sums": sum(layer.saturated for layer in found),
            "saturated_sums_if_not_reduced": sum(candidate.saturated_unreduced for candidate in candidates),
        },
    }
    return {target: certificates[target] for target in quantize.targets}
