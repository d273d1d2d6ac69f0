"""One candidate at one effort, by the components the stages call, on dev alone: what it weighs and how good it is.

Every model, graph and score is kept under a digest of all it depends on, so that trials share what they have in common
and none is made twice, after a kill either. Runs in the search's worker processes; imports torch.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from components.compression.passes import parse_passes
from components.core.bundle import Bundle
from components.core.config import parse_config
from components.core.files import new_folder, read_json, sha256_tree, write_json
from components.core.params import Variant, load_params
from components.core.task import TaskDataset, TrainedModel, load_task
from components.core.threads import threads
from components.core.tolerance import Tolerance, tolerance_for
from components.evaluation.hardware import describe
from components.evaluation.packaging import GOLDEN
from components.evaluation.quality import check_quality, score_splits, score_torch_model, share_of_teacher
from components.export.export import export_model
from components.export.torch_predictor import torch_predictor
from components.inference import load_predictor
from components.training.weights import load_model, save_model
from pipelines.fits import Fits, stable
from pipelines.scores import torch_scores
from pipelines.search.space import SHORT, Candidate, Space, describe_space

# untrained: the passes without their trainings, nearly of the final size and latency. short: a part of each training.
Effort = Literal["untrained", "short", "full"]
CALIBRATION = 32  # examples for a graph of which only size and speed count
ANYTHING = 1e9
CODE = ("components/training", "components/compression", "components/export", "components/evaluation/quality.py")


def space_of(recipe: str) -> Space:
    """Return a recipe's space; its teacher and data are there."""
    return describe_space(load_params(), recipe, _prepared(recipe))


def inputs_of(recipe: str) -> str:
    """Return a digest of all that a recipe's trials depend on beside what they try: data, models, code, machine."""
    models = {recipe, *(variant.parent for variant in load_params().variants_of(recipe).values())}
    paths = [str(_prepared(recipe)), *(str(Path("models") / name) for name in sorted(models)), *CODE]
    return hashlib.sha256(stable([*map(_digest_of, paths), describe()])).hexdigest()


def evaluate(recipe: str, candidate: Candidate, effort: Effort, work: Path) -> dict[str, Any]:
    """Return a row as metrics/<recipe>/variants/*.json holds it, for dev alone, with the path of its `bundle`.

    work: where models, graphs and scores are kept. Of untrained candidates quality is unknown and left out.

    Raises:
        ModelpressError: the candidate is impossible, or its graph strays from its model beyond the tolerance.
    """
    return _Trial(recipe, candidate, effort, work).row()


class _Trial:
    """What the steps of one evaluation share."""

    def __init__(self, recipe: str, candidate: Candidate, effort: Effort, work: Path) -> None:
        self.name, self.candidate, self.effort, self.work = recipe, candidate, effort, work
        self.params = load_params()
        self.recipe = self.params.recipes[recipe]
        self.task = load_task(self.recipe.task)
        self.root = _prepared(recipe)
        self.passes = at_effort(candidate.passes, effort, self.recipe.train)
        self.variant = parse_config(Variant, {"recipe": recipe, "from": candidate.start, **candidate.variant}, "trial")
        self.options = parse_config(self.task.Options, self.variant.options, "trial.options")

    def row(self) -> dict[str, Any]:
        key = self._digest(self.passes, self.variant.model_dump(), self.effort == "full")
        folder = self.work / "graphs" / key
        facts = self.work / "rows" / f"{key}.json"
        with FileLock(_lock(self.work, key)):
            if not facts.is_file() or not folder.is_dir():
                model = self._model(self.passes)
                self._export(model, folder, key)
                write_json(facts, self._facts(model, Bundle.load(folder)))
        return {**read_json(facts), "bundle": str(folder)}

    def _model(self, passes: Sequence[Mapping[str, Any]]) -> TrainedModel:
        """Return the model that the first passes make of the start; each prefix is kept, so that trials share it."""
        if not passes:
            return self._load(Path("models") / self.candidate.start)
        key = self._digest(passes)
        folder = self.work / "models" / key
        with FileLock(_lock(self.work, key)):
            if not folder.is_dir():
                model = self._apply(self._model(passes[:-1]), passes, key)
                with new_folder(folder) as out:
                    save_model(model, out)
        return self._load(folder)

    def _load(self, folder: Path) -> TrainedModel:
        return load_model(self.task, folder, self.root)

    def _apply(self, model: TrainedModel, passes: Sequence[Mapping[str, Any]], key: str) -> TrainedModel:
        teacher = self._load(Path("models") / self.name)
        # the checkpoints of a killed trial lie under this key, and its training goes on from them
        fits = Fits(f"search-{key}", self.task, self.recipe, {"passes": passes}, self.root)
        context = fits.context(teacher)
        if self.effort == "untrained":
            context = replace(context, fit=lambda *_: None)
        for step in parse_passes(passes[-1:], f"{self.name}.passes"):
            model = step.apply(model, context)
        shutil.rmtree(fits.scratch.parent, ignore_errors=True)
        return model

    def _export(self, model: TrainedModel, folder: Path, key: str) -> None:
        identity = {
            "recipe": self.name,
            "variant": key,
            "parent": self.candidate.start,
            "precision": self.variant.precision,
            "runtime": self.variant.runtime,
        }
        quantize = self.variant.quantize
        if quantize is not None and self.effort == "untrained":
            samples = min(CALIBRATION, quantize.calibration.samples)
            quantize = quantize.model_copy(
                update={"calibration": quantize.calibration.model_copy(update={"samples": samples})}
            )
        dev, train = self._dev(), self.task.dataset(self.root, "train")
        with new_folder(folder) as out:
            assets, tolerance = self.root / "assets", self._tolerance()
            manifest = export_model(
                self.task, model, self.options, dev, assets, tolerance, identity, out, quantize, train
            )
            # `measure` times a bundle's golden examples, which are test's; these are dev's
            write_json(out / "golden.json", {"examples": [{"input": given} for given in dev.inputs()[:GOLDEN]]})
            Bundle.save(out, manifest)

    def _tolerance(self) -> Tolerance:
        """Return the variant's limits; before the full training only the loss of quality that shapes static int8."""
        stated = tolerance_for(self.variant.precision, self.variant.tolerance, "trial.tolerance")
        if self.effort == "full":
            return stated
        drop = stated.quality_drop if self.effort == "short" else ANYTHING
        return Tolerance(max_abs_diff=ANYTHING, relative_difference=ANYTHING, agreement=0, quality_drop=drop)

    def _facts(self, model: TrainedModel, bundle: Bundle) -> dict[str, Any]:
        facts = {
            "recipe": self.name,
            # forms are chosen among beside the float form of their own model, and a trial's has no name
            "parent": self._digest(self.passes) if self.passes else self.candidate.start,
            "precision": self.variant.precision,
            "runtime": self.variant.runtime,
            "mode": self.task.metric.mode,
            "size_bytes": bundle.size_bytes(),
            "parameters": bundle.manifest.parameters,
            "parity": bundle.manifest.parity,
        }
        if self.effort == "untrained":
            return facts
        quality = score_splits(self.task, load_predictor(bundle, threads()), {"dev": self._dev()})
        if self.effort == "full":
            check_quality(self.task.metric, quality, self._torch_quality(model, quality["dev"]), self._tolerance())
        teacher = self._scores(self.name, quality["dev"])
        metric, share = share_of_teacher(self.task.metric, quality, teacher)
        return {
            **facts,
            "metric": metric,
            "quality": quality,
            "quality_vs_teacher": share,
            "teacher_quality": teacher,
        }

    def _torch_quality(self, model: TrainedModel, names: Collection[str]) -> dict[str, dict[str, float]]:
        """Return the torch model's dev metrics: from its stage, or scored here once for each way of answering."""
        if not self.passes:
            return self._scores(self.candidate.start, names)
        key = self._digest(self.passes, self.options.model_dump())
        path = self.work / "scores" / f"{key}.json"
        with FileLock(_lock(self.work, f"score-{key}")):
            if not path.is_file():
                predictor = torch_predictor(self.task, model, self.options, self.root / "assets")
                dev = {"dev": self._dev()}
                write_json(path, score_torch_model(self.task, model.module, {"": predictor}, dev))
        return dict(read_json(path))

    def _scores(self, model: str, names: Collection[str]) -> dict[str, dict[str, float]]:
        return torch_scores(self.name, model, self.task, self.options, names, {"dev": self._dev()}, self.root)

    def _dev(self) -> TaskDataset:
        return self.task.dataset(self.root, "dev")

    def _digest(self, passes: Sequence[Mapping[str, Any]], *more: Any) -> str:
        models = [_digest_of(str(Path("models") / name)) for name in (self.candidate.start, self.name)]
        inputs = [_digest_of(str(self.root)), *map(_digest_of, CODE), *models]
        trained = "untrained" if self.effort == "untrained" else ""  # a short training says so by its epochs
        return hashlib.sha256(stable([inputs, self.recipe.train, passes, trained, *more])).hexdigest()[:20]


def at_effort(passes: Sequence[Mapping[str, Any]], effort: Effort, train: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the passes as an effort has them: with fewer epochs, or with the least work around no training."""
    return [{name: _block(block, effort, train) for name, block in step.items()} for step in passes]


def _block(block: Mapping[str, Any], effort: Effort, train: Mapping[str, Any]) -> dict[str, Any]:
    if effort == "full":
        return dict(block)
    if effort == "untrained":
        little = {key: value for key, value in block.items() if key not in ("sequence", "logit", "train")}
        estimated = "remove" in little and little.get("criterion", "taylor") == "taylor"
        return {**little, "batches": 1} if "batches" in little or estimated else little
    full = {**train, **block.get("train", {})}
    epochs = math.ceil(full["epochs"] / SHORT)
    if epochs == full["epochs"]:  # there is nothing shorter
        return dict(block)
    fewer = {"epochs": epochs, "warmup_steps": full.get("warmup_steps", 0) // SHORT}
    return {**block, "train": {**block.get("train", {}), **fewer}}


@cache
def _digest_of(path: str) -> str:
    return sha256_tree(Path(path))


def _lock(work: Path, key: str) -> str:
    (work / "locks").mkdir(parents=True, exist_ok=True)
    return str(work / "locks" / key)


def _prepared(recipe: str) -> Path:
    return Path("data/prepared") / recipe
