"""The fits of one stage: checkpoints named after everything they depend on, one curve, what a pass may ask for."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import parse_config
from components.core.files import sha256_tree, write_text
from components.core.params import Recipe
from components.core.task import Task, TaskDataset, TrainedModel
from components.core.threads import threads

if TYPE_CHECKING:
    from components.compression.context import Context

SCRATCH = Path(".modelpress")  # what may be lost: checkpoints of unfinished fits, teachers' answers, scores


class Fits:
    """One stage's fits; `parents` are the models it starts from, `parameters` what its result depends on."""

    def __init__(self, key: str, task: Task, recipe: Recipe, parameters: Mapping[str, Any], root: Path, *parents: str):
        self.key, self.task, self.recipe, self.root = key, task, recipe, root
        self.curve: list[Mapping[str, float]] = []
        inputs = [root, *(Path("models") / parent for parent in parents)]
        # root knows the task's own; quantize_aware trains with the rounding of `export`
        code = [Path("components") / name for name in ("training", "compression", "export")]
        digests = [sha256_tree(path) for path in (*inputs, *code)]
        self.fingerprint = hashlib.sha256(stable([parameters, digests])).hexdigest()[:16]
        self.count = 0

    @property
    def scratch(self) -> Path:
        """A folder of this stage with these inputs; it goes when the stage is done."""
        return SCRATCH / "fits" / self.key / self.fingerprint

    def fit(self, module: Any, step: Any, data: TaskDataset, changes: Mapping[str, Any]) -> None:
        """Train a module in place; the recipe's `train` with a pass's changes."""
        from components.tracking.live_curves import LiveCurves
        from components.training.config import TrainConfig
        from components.training.fit import fit

        config = parse_config(TrainConfig, {**self.recipe.train, **changes}, f"{self.key}.train")
        self.count += 1
        offset = int(self.curve[-1]["step"]) if self.curve else 0  # one curve a stage, however many fits
        live = LiveCurves.from_environment()
        try:
            rows = fit(
                module,
                step,
                data,
                self.task.dataset(self.root, "dev"),
                config,
                self.scratch / str(self.count),
                lambda number, values: live.log(offset + number, values),
            )
        finally:
            live.close()
        self.curve += [{**row, "step": offset + row["step"]} for row in rows]

    def context(self, teacher: TrainedModel) -> Context:
        """Return what the passes of this stage are given."""
        import torch

        from components.compression.context import Context
        from components.compression.kept_logits import KeptLogits, kept_logits
        from components.export.answers import model_answers
        from components.training.config import TrainConfig
        from components.training.fit import precision_here
        from components.training.module import batches, endless_batches

        def said(model: TrainedModel, code: Path, *depends: Any) -> Path:
            """Return where to keep what a model said, without an ending."""
            parts = [_weights_digest(model), sha256_tree(self.root), sha256_tree(code), *depends]
            return SCRATCH / "answers" / hashlib.sha256(stable(parts)).hexdigest()[:16]

        def answers(model: TrainedModel, examples: TaskDataset, search: Mapping[str, Any]) -> list[Any]:
            options = parse_config(self.task.Options, search, f"students.{self.key}.passes.sequence")
            cache = said(model, Path("components") / "export", search).with_suffix(".json")  # the int8 graph's answers
            return model_answers(self.task, model, options, examples, self.root / "assets", threads(), cache)

        def kept(model: TrainedModel, examples: TaskDataset, classes: int, temperature: float) -> KeptLogits:
            config = TrainConfig(**self.recipe.train)
            code = Path("components") / "compression" / "kept_logits.py"

            def cache(digest: str) -> Path:
                return said(model, code, digest, classes, temperature).with_suffix(".npz")

            torch.set_num_threads(threads())
            step, module = self.task.step, model.module.eval()
            bf16 = precision_here(config.precision) == "bf16-mixed"
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):  # as a student's own steps ask it
                return kept_logits(step, module, lambda: batches(examples, config, None), classes, temperature, cache)

        return Context(
            task=self.task,
            root=self.root,
            train=self.task.dataset(self.root, "train"),
            teacher=teacher,
            fit=self.fit,
            batches=lambda data: endless_batches(data, self.recipe.train),
            answers=answers,
            kept_logits=kept,
        )


def stable(value: Any) -> bytes:
    """Return bytes that are the same for the same parameters."""
    return json.dumps(value, sort_keys=True, default=str).encode()


def _weights_digest(model: TrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_curve(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows as CSV, a column for every name that occurs."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_curve(path: Path) -> list[dict[str, float]]:
    """Read rows written by write_curve, empty cells left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
