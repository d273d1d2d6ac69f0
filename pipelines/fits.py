"""The fits of one stage: checkpoints named after everything they depend on, one curve, what a pass may ask for."""

from __future__ import annotations

import copy
import csv
import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from components.core.config import parse_config
from components.core.files import sha256_file, sha256_tree, write_text
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

        def answers(model: TrainedModel, examples: TaskDataset, search: Mapping[str, Any]) -> list[Any]:
            options = parse_config(self.task.Options, search, f"students.{self.key}.passes.sequence")
            code = Path("components") / "export"  # the answers are the int8 graph's
            with self._said(model, sha256_tree(code), search) as cache:
                return model_answers(
                    self.task, model, options, examples, self.root / "assets", threads(), cache("json")
                )

        def kept(model: TrainedModel, examples: TaskDataset, classes: int, temperature: float) -> KeptLogits:
            config = TrainConfig(**self.recipe.train)
            bf16 = precision_here(config.precision) == "bf16-mixed"  # as a student's own steps would ask
            code = Path("components") / "compression" / "kept_logits.py"
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            module = copy.deepcopy(model.module).eval().to(device)
            again = functools.partial(batches, examples, config, None)
            torch.set_num_threads(threads())
            with (
                self._said(model, sha256_file(code), classes, temperature, bf16) as cache,
                torch.autocast(device.type, torch.bfloat16, enabled=bf16),
            ):
                return kept_logits(
                    self.task.step, module, again, classes, temperature, lambda digest: cache(f"{digest[:16]}.npz")
                )

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

    @contextmanager
    def _said(self, model: TrainedModel, *depends: Any) -> Iterator[Callable[[str], Path]]:
        """Give what names a file by its ending, in which is kept what a model said; nobody else asks meanwhile.

        What other models of the recipe said goes: a teacher that was trained again leaves nothing behind.
        """
        weights = _weights_digest(model)[:16]
        name = hashlib.sha256(stable([sha256_tree(self.root), *depends])).hexdigest()[:16]
        folder = SCRATCH / "answers" / self.root.name
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            for path in folder.iterdir():
                if not path.name.startswith((weights, "lock")):
                    path.unlink()
            yield lambda ending: folder / f"{weights}-{name}.{ending}"


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
