"""A proven export becomes a bundle: golden examples, model card and lineage join the graphs, and all is sealed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.bundle import Bundle
from components.core.files import write_json, write_text
from components.core.params import Recipe
from components.core.task import TaskDataset
from components.evaluation.model_card import model_card
from components.inference import load_predictor

GOLDEN = 64  # examples that travel with the bundle: checked at load by servers, and the workload of `measure`


def package_bundle(
    export: Path,
    examples: TaskDataset,
    metrics: Mapping[str, Any],
    lineage: Mapping[str, Any],
    recipe: Recipe,
    out: Path,
) -> None:
    """Fill the empty folder `out` with a bundle made from an export that passed its evaluation.

    lineage: what the variant was made from; no times, hosts or paths, so that the same inputs give the same bytes.
    """
    bundle = Bundle.load(export)
    for name in bundle.manifest.files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(export / name, out / name)
    inputs, references = list(examples.inputs()[:GOLDEN]), list(examples.references()[:GOLDEN])
    answers = load_predictor(bundle).predict(inputs)
    golden = [
        {"input": given, "reference": wanted, "output": got}
        for given, wanted, got in zip(inputs, references, answers, strict=True)
    ]
    write_json(out / "golden.json", {"examples": golden})
    manifest = replace(bundle.manifest, lineage=lineage)
    write_text(out / "MODEL_CARD.md", model_card(manifest, dict(metrics), recipe))
    Bundle.save(out, manifest)
