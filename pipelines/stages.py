"""The composition root: one short function a stage, and the only reader of params.yaml.

A stage reads its dependencies, calls components, and writes its outputs whole or not at all. Heavy libraries are
imported inside the stage that needs them, so that a stage's process starts with nothing it does not use.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.config import parse_config
from components.core.files import new_folder, read_json, sha256_file, sha256_tree, write_json
from components.core.params import Params, Recipe, Variant, load_params
from components.core.task import Task, TaskDataset, TrainedModel, load_task
from components.core.task_sources import task_sources
from pipelines.fits import Fits, read_curve, stable, write_curve
from pipelines.scores import model_metrics, torch_scores

EVALUATED = ("dev", "test")


def hardware(_key: str = "") -> None:
    """Describe this machine, so that timings are tied to it."""
    from components.evaluation.hardware import describe

    write_json(Path("hardware.json"), describe())


def members(_key: str = "") -> None:
    """List each recipe's students and variants, so that its selection goes stale with what is taken out."""
    params = load_params()
    with new_folder(Path("data/members")) as out:
        for recipe in params.recipes:
            students = [name for name, student in params.students.items() if student.recipe == recipe]
            write_json(out / f"{recipe}.json", {"students": students, "variants": list(params.variants_of(recipe))})


def fetch(key: str) -> None:
    """Bring a dataset's raw files from its pinned source."""
    from components.data.sources import fetch as fetch_files

    fetch_files(key, load_params().datasets[key].source, Path("data/raw") / key)


def prepare(key: str) -> None:
    """Turn raw files into splits, tokenizers and arrays."""
    params, recipe, task = _recipe(key)
    data = parse_config(task.Data, recipe.data, f"recipes.{key}.data")
    dataset = params.datasets[recipe.dataset]
    with new_folder(_prepared(key)) as out:
        facts = task.prepare(Path("data/raw") / recipe.dataset, out, dataset.split, data)
        # whatever is made from this data goes stale with the task's own code
        sources = {str(path): sha256_file(path) for path in task_sources(recipe.task, task.predictor)}
        write_json(out / "task.json", {"task": recipe.task, "sources": sources})
    about = dataset.about.model_dump() if dataset.about else {}
    lineage = {"dataset": recipe.dataset, "about": about, "source": dataset.source.model_dump()}
    write_json(_lineage(key), lineage)
    print(f"{key}: {facts}")


def train(key: str) -> None:
    """Train a recipe's teacher and score it."""
    from components.training.weights import seed_everything

    _, recipe, task = _recipe(key)
    config = parse_config(task.Model, recipe.model, f"recipes.{key}.model")
    seed_everything(recipe.train.get("seed", 1))
    model = TrainedModel(config, task.build_model(config, _prepared(key)))
    print(f"{key}: {model.parameters():,} parameters")
    fits = Fits(key, task, recipe, {"model": recipe.model, "train": recipe.train}, _prepared(key))
    fits.fit(model.module, task.step, task.dataset(_prepared(key), "train"), {})
    _finish_model(key, key, task, model, fits)


def compress(key: str) -> None:
    """Make a student by its passes and score it."""
    from components.compression.passes import parse_passes
    from components.training.weights import load_model

    params = load_params()
    student = params.students[key]
    _, recipe, task = _recipe(student.recipe)
    root = _prepared(student.recipe)
    model = load_model(task, Path("models") / student.parent, root)
    teacher = load_model(task, Path("models") / student.recipe, root)
    fits = Fits(
        key, task, recipe, {"passes": student.passes, "train": recipe.train}, root, student.parent, student.recipe
    )
    context = fits.context(teacher)
    for step in parse_passes(student.passes, f"students.{key}.passes"):
        model = step.apply(model, context)
    _finish_model(key, student.recipe, task, model, fits)


def export(key: str) -> None:
    """Export a model at a precision and prove the graph equal to it.

    On one thread: tracing has no use for more, several exports side by side would take each other's, and the proof's
    figures are the same however many cores there are.
    """
    import torch

    from components.core.tolerance import tolerance_for
    from components.export.export import export_model
    from components.training.weights import load_model

    torch.set_num_threads(1)
    variant, task, root = _variant(key)
    options = parse_config(task.Options, variant.options, f"variants.{key}.options")
    tolerance = tolerance_for(variant.precision, variant.tolerance, f"variants.{key}.tolerance")
    identity = {
        "recipe": variant.recipe,
        "variant": key,
        "parent": variant.parent,
        "precision": variant.precision,
        "runtime": variant.runtime,
    }
    model = load_model(task, Path("models") / variant.parent, root)
    with new_folder(Path("exports") / key) as out:
        dev, train = (task.dataset(root, split) for split in ("dev", "train"))
        export_model(task, model, options, dev, root / "assets", tolerance, identity, out, variant.quantize, train)


def evaluate(key: str) -> None:
    """Score an exported variant, on one thread as an export; refuse it if it lost more than its tolerance."""
    import torch

    from components.core.bundle import Bundle
    from components.core.tolerance import tolerance_for
    from components.evaluation.quality import check_quality, score_splits, share_of_teacher
    from components.inference import load_predictor

    torch.set_num_threads(1)
    variant, task, root = _variant(key)
    bundle, splits = Bundle.load(Path("exports") / key), _splits(task, root)
    quality = score_splits(task, load_predictor(bundle), splits)
    options = parse_config(task.Options, variant.options, f"variants.{key}.options")
    own, teacher = (
        torch_scores(variant.recipe, name, task, options, quality["dev"], splits, root)
        for name in (variant.parent, variant.recipe)
    )
    tolerance = tolerance_for(variant.precision, variant.tolerance, f"variants.{key}.tolerance")
    check_quality(task.metric, quality, own, tolerance)
    metric, share = share_of_teacher(task.metric, quality, teacher)
    print(f"{key}: dev {metric} {quality['dev'][metric]:.4g}, {share:.1%} of the teacher's quality")
    write_json(
        Path("metrics") / variant.recipe / "variants" / f"{key}.json",
        {
            "variant": key,
            "recipe": variant.recipe,
            "parent": variant.parent,
            "precision": variant.precision,
            "runtime": variant.runtime,
            "options": bundle.manifest.options,
            "metric": metric,
            "mode": task.metric.mode,
            "signature": task.signature(task.dataset(root, "dev")),
            "unit": task.metric.unit,
            "quality": quality,
            "teacher_quality": teacher,
            "quality_vs_teacher": share,
            "size_bytes": bundle.size_bytes(),
            "deflated_bytes": bundle.deflated_bytes(),
            "parameters": bundle.manifest.parameters,
            "multiply_adds_m": own["dev"].get("multiply_adds_m"),
            "parity": bundle.manifest.parity,
            "quantization": bundle.manifest.quantization,
        },
    )


def package(key: str) -> None:
    """Write the deployable bundle of a proven export: golden examples, model card, lineage."""
    from components.evaluation.packaging import package_bundle

    params = load_params()
    variant, task, root = _variant(key)
    recipe = params.recipes[variant.recipe]
    lineage = {
        **read_json(_lineage(variant.recipe)),
        "params_sha256": hashlib.sha256(stable(_made_by(params, variant))).hexdigest(),
        "data_sha256": sha256_tree(root),
    }
    metrics = read_json(Path("metrics") / variant.recipe / "variants" / f"{key}.json")
    with new_folder(Path("bundles") / variant.recipe / key) as out:
        package_bundle(Path("exports") / key, task.dataset(root, "test"), metrics, lineage, recipe, out)


def measure(key: str) -> None:
    """Time all of a recipe's bundles, interleaved, without torch in the process."""
    from components.evaluation.latency import measure as measure_bundles

    bundles = {name: Path("bundles") / key / name for name in _members(key)["variants"]}
    timings = measure_bundles(bundles)
    write_json(Path("metrics") / key / "latency.json", {**timings, "hardware": read_json(Path("hardware.json"))})


def select(key: str) -> None:
    """Choose the best variant within the recipe's budget, or fail saying which limit none meets."""
    from components.evaluation.selection import select as select_variant

    folder, budget = Path("metrics") / key, load_params().recipes[key].budget
    variants = [read_json(folder / "variants" / f"{name}.json") for name in _members(key)["variants"]]
    selection = select_variant(key, budget, variants, read_json(folder / "latency.json"))
    write_json(folder / "selection.json", selection)
    print(selection["reason"])


def report(key: str) -> None:
    """Write the recipe's page."""
    from components.core.bundle import Bundle
    from components.evaluation.charts.layer_errors import layer_error_pictures
    from components.evaluation.pictures import has_pictures, task_pictures
    from components.evaluation.report import write_report
    from components.evaluation.side_by_side import side_by_side
    from components.inference import load_predictor
    from components.training.weights import load_model

    selection = read_json(Path("metrics") / key / "selection.json")
    models = [key, *_members(key)["students"]]
    bundles = {row["variant"]: Bundle.load(Path("bundles") / key / row["variant"]) for row in selection["variants"]}
    chosen = bundles[selection["selected"]]
    pictures = layer_error_pictures({name: bundle.manifest.quantization for name, bundle in bundles.items()})
    if has_pictures(chosen.manifest.task):
        task = load_task(chosen.manifest.task)
        predictor, teacher = load_predictor(chosen), load_model(task, Path("models") / key, _prepared(key))
        pictures += task_pictures(task.name, predictor, task.dataset(_prepared(key), "test"), teacher)
    with new_folder(Path("reports") / key) as out:
        write_report(
            recipe=key,
            selection=selection,
            curves={name: read_curve(Path("curves") / key / f"{name}.csv") for name in models},
            examples=side_by_side(bundles, selection),
            lineage={**chosen.manifest.lineage, "bundle": chosen.manifest.files},
            out=out,
            pictures=pictures,
        )


def check(_key: str = "") -> None:
    """Check every block of params.yaml against the task that reads it; all mistakes at once."""
    from pipelines.params_check import check_params

    check_params(load_params())


STAGES: dict[str, Callable[[str], None]] = {
    "hardware": hardware,
    "members": members,
    "fetch": fetch,
    "prepare": prepare,
    "train": train,
    "compress": compress,
    "export": export,
    "evaluate": evaluate,
    "package": package,
    "measure": measure,
    "select": select,
    "report": report,
    "check": check,
}


# ---- what several stages share ------------------------------------------------------------------------------------


def _finish_model(key: str, recipe: str, task: Task, model: TrainedModel, fits: Fits) -> None:
    """Score a trained model, write it with its curve and metrics, and drop its checkpoints."""
    from components.evaluation.quality import score_torch_model
    from components.export.torch_predictor import torch_predictor
    from components.training.weights import save_model

    root = _prepared(recipe)
    print(f"{key}: scoring", flush=True)
    predictors = {str(o): torch_predictor(task, model, o, root / "assets") for o in task.protocols()}
    quality = score_torch_model(task, model.module, predictors, _splits(task, root))
    with new_folder(Path("models") / key) as out:
        save_model(model, out)
    write_curve(Path("curves") / recipe / f"{key}.csv", fits.curve)
    facts = {"model": key, "recipe": recipe, "parameters": model.parameters(), "quality": quality}
    write_json(model_metrics(recipe, key), facts)
    print(f"{key}: dev {quality['dev']}")
    shutil.rmtree(fits.scratch.parent, ignore_errors=True)


def _made_by(params: Params, variant: Variant) -> list[dict[str, Any]]:
    """Return all parameters a variant's bytes come from: the recipe's but its budget, each student's, its own."""
    blocks = [variant.model_dump(exclude_none=True), params.recipes[variant.recipe].model_dump(exclude={"budget"})]
    parent = params.students.get(variant.parent)
    while parent:
        blocks.append(parent.model_dump())
        parent = params.students.get(parent.parent)
    return blocks


def _recipe(key: str) -> tuple[Params, Recipe, Task]:
    params = load_params()
    return params, params.recipes[key], load_task(params.recipes[key].task)


def _variant(key: str) -> tuple[Variant, Task, Path]:
    params = load_params()
    variant = params.variants[key]
    return variant, load_task(params.recipes[variant.recipe].task), _prepared(variant.recipe)


def _members(recipe: str) -> dict[str, list[str]]:
    """Return the names of a recipe's "students" and "variants"."""
    return dict(read_json(Path("data/members") / f"{recipe}.json"))


def _prepared(recipe: str) -> Path:
    return Path("data/prepared") / recipe


def _lineage(recipe: str) -> Path:
    return Path("data/lineage") / f"{recipe}.json"


def _splits(task: Task, root: Path) -> dict[str, TaskDataset]:
    return {name: task.dataset(root, name) for name in EVALUATED}
