"""The model card of a bundle in the form Hugging Face reads: YAML front matter, then what a user has to know.

Deterministic, and without timings: those belong to a machine, not to the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from components.core.bundle import Manifest
from components.core.params import Recipe

# Tasks whose name is not what Hugging Face calls them.
PIPELINE_TAGS = {
    "translation": "translation",
    "image_classification": "image-classification",
    "forecasting": "time-series-forecasting",
    "sequence_classification": "audio-classification",
    "audio_generation": "text-to-speech",
}

PRECISION_LIMITS = {
    "fp32": "Weights and sums are 32-bit floats, as in the torch model.",
    "fp16": "Weights are 16-bit floats; single answers may differ from the torch model's.",
    "int8": "Weights are 8-bit integers, and activations are scaled by batch: an answer may depend a little on "
    "what else is in its batch, and single answers differ from the torch model's. Judge it by quality, not equality.",
}


def model_card(manifest: Manifest, metrics: Mapping[str, Any], recipe: Recipe) -> str:
    """Return MODEL_CARD.md.

    manifest: of the bundle; `lineage["about"]`, where there is one, says what the data is: {"license" (Hugging Face's
    identifier), "languages" (codes), "credit" and "limits" (sentences), "example" (an input)}.
    metrics: the content of metrics/<recipe>/variants/<variant>.json.
    """
    about = manifest.lineage.get("about") or {}
    sections = [
        _front_matter(manifest, metrics, recipe, about),
        f"# {manifest.variant}\n\n{_summary(manifest, metrics)}",
        f"## How to use\n\n{_usage(manifest, about)}",
        f"## Quality\n\n{_quality(metrics)}",
        f"## Size\n\n{_size(manifest, metrics)}",
        f"## Proof\n\n{_parity(manifest)}",
        f"## Training data\n\n{_data(recipe, about)}",
        f"## Limits\n\n{_bullets(_limits(manifest, about))}",
        f"## Lineage\n\n{_table(('what', 'value'), _flat(manifest.lineage))}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(manifest: Manifest, metrics: Mapping[str, Any], recipe: Recipe, about: Mapping[str, Any]) -> str:
    import yaml

    metric = str(metrics["metric"])
    results = [
        {
            "task": {"type": PIPELINE_TAGS.get(manifest.task, manifest.task)},
            "dataset": {"name": recipe.dataset, "type": recipe.dataset, "split": split},
            "metrics": [{"type": metric.partition("_")[0], "name": metric, "value": values[metric]}],
        }
        for split, values in sorted(metrics["quality"].items())
    ]
    head = {
        "license": about.get("license", "other"),
        "language": list(about.get("languages", [])),
        "library_name": "onnx",
        "pipeline_tag": PIPELINE_TAGS.get(manifest.task),
        "tags": ["onnx", "modelpress", manifest.task, manifest.precision],
        "datasets": [recipe.dataset],
        "metrics": [metric.partition("_")[0]],
        "model-index": [{"name": manifest.variant, "results": results}],
    }
    known = {key: value for key, value in head.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _summary(manifest: Manifest, metrics: Mapping[str, Any]) -> str:
    origin = "its teacher" if manifest.parent == manifest.recipe else f"the student `{manifest.parent}`"
    options = ", ".join(f"{key} {value}" for key, value in sorted(manifest.options.items())) or "none"
    return (
        f"A {manifest.task.replace('_', ' ')} model of recipe `{manifest.recipe}`: {origin}, exported to ONNX at "
        f"{manifest.precision} for {manifest.runtime} (options: {options}). {_kept(metrics)} Everything needed "
        "to answer is in this folder; ONNX Runtime runs it, and no training framework is needed."
    )


def _kept(metrics: Mapping[str, Any]) -> str:
    share, metric = f"{metrics['quality_vs_teacher']:.1%}", metrics["metric"]
    if metrics.get("mode") == "min":
        return f"Its dev {metric}, an error, is {share} as good as the teacher's."
    return f"It keeps {share} of the teacher's dev {metric}."


def _usage(manifest: Manifest, about: Mapping[str, Any]) -> str:
    example = json.dumps(about.get("example", "..."), ensure_ascii=False)
    folder = f"bundles/{manifest.recipe}/{manifest.variant}"
    return (
        "```python\n"
        "from pathlib import Path\n"
        "from components.inference import load_predictor\n"
        f'print(load_predictor(Path("{folder}")).predict([{example}]))\n'
        "```\n\n"
        f"or in a shell: `modelpress predict {folder} {example}`. `golden.json` holds inputs and the answers this "
        "bundle gave when it was made."
    )


def _quality(metrics: Mapping[str, Any]) -> str:
    """Return this variant's and the teacher's figures, each under the name of its protocol."""
    quality, teacher = metrics["quality"], metrics.get("teacher_quality", {})
    names = sorted({name for scores in (*quality.values(), *teacher.values()) for name in scores} - {"multiply_adds_m"})
    rows = [
        (split, name, _figure(quality.get(split, {}).get(name)), _figure(teacher.get(split, {}).get(name)))
        for split in sorted({*quality, *teacher})
        for name in names
    ]
    note = f"Variants are compared by `{metrics['metric']}` on dev. A figure means nothing without its protocol's name."
    if metrics.get("signature"):
        note += f" How it was computed: `{metrics['signature']}`."
    return f"{_table(('split', 'metric and protocol', 'this model', 'teacher, torch'), rows)}\n\n{note}"


def _size(manifest: Manifest, metrics: Mapping[str, Any]) -> str:
    work = metrics.get("multiply_adds_m")  # not every task counts them
    zipped = f", {metrics['deflated_bytes']:,} zipped" if "deflated_bytes" in metrics else ""
    return (
        f"{metrics['size_bytes'] / 1e6:.2f} MB ({metrics['size_bytes']:,} bytes{zipped}) of graphs and assets, "
        f"{manifest.parameters:,} parameters{f', {work:.4g} million multiply-adds an input' if work else ''}."
    )


def _parity(manifest: Manifest) -> str:
    facts = {key: value for key, value in manifest.parity.items() if not isinstance(value, list | tuple)}
    grid = next((len(value) for value in manifest.parity.values() if isinstance(value, list | tuple)), 0)
    shapes = f" over {grid} input shapes" if grid else ""
    intro = (
        f"Before it was packaged, the graph was run beside the torch model it came from, on the same inputs{shapes}:"
    )
    return f"{intro}\n\n{_table(('measure', 'value'), _flat(facts))}"


def _data(recipe: Recipe, about: Mapping[str, Any]) -> str:
    licence = about.get("license", "not stated; see the source named under Lineage")
    credit = f" {about['credit']}" if about.get("credit") else ""
    return f"Dataset `{recipe.dataset}`, licence: {licence}.{credit}"


def _limits(manifest: Manifest, about: Mapping[str, Any]) -> list[str]:
    return [
        *_precision_limits(manifest),
        "It has seen nothing but the data above: inputs unlike it get answers of unknown quality.",
        *about.get("limits", []),
    ]


def _precision_limits(manifest: Manifest) -> list[str]:
    """Return what a precision means for the answers; of static int8 and weight-only also where they are exact."""
    if not manifest.quantization:
        return [PRECISION_LIMITS[manifest.precision]]
    certificates = manifest.quantization["certificates"]
    certified = (
        f"Certified to compute exactly on: {', '.join(_certified(*item) for item in certificates.items())}. On other "
        "processors its sums may saturate."
    )
    if manifest.quantization["method"] == "dynamic":
        return [PRECISION_LIMITS["int8"], certified]
    if manifest.quantization["method"] == "weight_only":
        return [_weight_only(manifest.quantization), certified]
    ranking = manifest.quantization["ranking"]
    learned, samples = manifest.quantization.get("learned_ranges"), manifest.quantization["calibration"]["samples"]
    origin = "that the model was trained with" if learned else f"found on {samples} training examples"
    in_float = sum(layer["precision"] == "float" for layer in ranking)
    return [
        f"{len(ranking) - in_float} of {len(ranking)} layers compute in 8-bit integers, with scales {origin}; single "
        "answers differ from the torch model's. Judge it by quality, not equality.",
        certified,
    ]


def _certified(target: str, certificate: Mapping[str, Any]) -> str:
    layers, proven = certificate.get("layers", 0), certificate.get("proven_layers", 0)
    if layers == proven:
        return target
    return f"{target} ({proven} of {layers} layers whatever the input, the others on the calibration examples)"


def _weight_only(facts: Mapping[str, Any]) -> str:
    computes = "floats" if facts["activations"] == "float" else "8-bit integers where a product reads them"
    return (
        f"Weights have {facts['bits']} bits and a scale for each {facts['block']} at most, activations are {computes}; "
        "single answers differ from the torch model's. Judge it by quality, not equality."
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, inner in sorted(value.items()):
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{prefix}{key}.")
        elif inner is not None:
            rows.append((f"{prefix}{key}", f"`{inner}`"))
    return rows


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in cells)
