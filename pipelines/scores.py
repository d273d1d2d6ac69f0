"""A trained model's scores: those of its stage and, where a variant answers in another way, those of that way."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.core.files import read_json, sha256_tree, write_json
from components.core.task import Task, TaskDataset
from pipelines.fits import SCRATCH, stable

# beside the task's own, of which `root` has the digest
CODE = ("export", "evaluation/quality.py", "inference/predictor.py", "training/weights.py")


def model_metrics(recipe: str, model: str) -> Path:
    """Return where the stage that makes a model writes its figures."""
    return Path("metrics") / recipe / "models" / f"{model}.json"


def torch_scores(
    recipe: str,
    model: str,
    task: Task,
    options: Any,
    names: Collection[str],
    splits: Mapping[str, TaskDataset],
    root: Path,
) -> dict[str, dict[str, float]]:
    """Return {split: {metric: value}} of a torch model, with these names.

    Its stage has scored it under the task's protocols. A name that is none of them (another beam, say) is scored here,
    under the variant's options, and kept for the other precisions under a digest of all it depends on.
    """
    stage = read_json(model_metrics(recipe, model))["quality"]
    known = {split: dict(stage[split]) for split in splits}
    if all(set(names) <= scores.keys() for scores in known.values()):
        return known
    inputs = [sha256_tree(path) for path in (Path("models", model), root, *(Path("components", name) for name in CODE))]
    digest = hashlib.sha256(stable([inputs, options.model_dump(), sorted(splits)])).hexdigest()[:16]
    kept = SCRATCH / "scores" / f"{digest}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):  # the other precisions' stages may run beside this one
        if not kept.is_file():
            from components.evaluation.quality import score_splits
            from components.export.torch_predictor import torch_predictor
            from components.training.weights import load_model

            print(f"{model}: scoring by {', '.join(sorted(names))}", flush=True)
            predictor = torch_predictor(task, load_model(task, Path("models", model), root), options, root / "assets")
            write_json(kept, score_splits(task, predictor, splits))
    return {split: {**known[split], **scores} for split, scores in read_json(kept).items()}
