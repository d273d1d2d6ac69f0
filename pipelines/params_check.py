"""The full check of params.yaml: every task-specific block against the classes that will read it."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from components.compression.passes import parse_passes
from components.compression.quantize_aware import QuantizeAware
from components.core.config import Config, parse_config
from components.core.errors import ConfigError, ModelpressError
from components.core.params import Params, Recipe, Student, Variant
from components.core.task import load_task
from components.core.tolerance import tolerance_for
from components.training.config import TrainConfig


def check_params(params: Params, path: Path = Path("params.yaml")) -> None:
    """Raise ConfigError with every problem found, or return."""
    problems: list[str] = []

    def collect(check: Callable[[], object]) -> None:
        try:
            check()
        except ConfigError as error:
            problems.extend(f"{path}: {problem}" for problem in error.problems)
        except ModelpressError as error:
            problems.append(f"{path}: {error}")

    for name, recipe in params.recipes.items():
        split = params.datasets[recipe.dataset].split
        collect(partial(_check_split, recipe, split))
        for check in _recipe_checks(name, recipe):
            collect(check)
    for name, student in params.students.items():
        for check in _student_checks(name, student, params.recipes[student.recipe]):
            collect(check)
    problems += [f"{path}: {problem}" for problem in _other_blocks(params)]
    for name, variant in params.variants.items():
        for check in _variant_checks(name, variant, params.recipes[variant.recipe]):
            collect(check)
    problems += [f"{path}: {problem}" for problem in _mistyped_stages(params)]
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _other_blocks(params: Params) -> list[str]:
    """Return the int4 variants that would round anew, in other blocks, what a student was trained to be in its own."""
    problems = []
    for name, variant in params.variants.items():
        student = params.students.get(variant.parent)
        trained = student.passes[-1].get("quantize_aware", {}) if student and student.passes else {}
        block = trained.get("block", QuantizeAware.model_fields["block"].default)
        own = variant.quantize.block if variant.precision == "int4" and variant.quantize else block
        if trained.get("bits") == 4 and own != block:
            problems.append(f"variants.{name}.quantize.block: {own}, but {variant.parent} was trained in {block}")
    return problems


def _mistyped_stages(params: Params) -> list[str]:
    """Return limits on stages that are not there but nearly: dvc.yaml may have stages of the user's own."""
    from pipelines.stages import STAGES

    names = {name: name.partition("@")[0] for name in params.stages.timeout_s}
    close = {name: get_close_matches(stage, STAGES, n=1) for name, stage in names.items() if stage not in STAGES}
    return [f"stages.timeout_s.{name}: no such stage, did you mean {near[0]}?" for name, near in close.items() if near]


def _check_split(recipe: Recipe, split: dict[str, Any]) -> None:
    load_task(recipe.task).check_split(split, f"datasets.{recipe.dataset}.split")


def _recipe_checks(name: str, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"recipes.{name}"
    return [
        lambda: parse_config(load_task(recipe.task).Data, recipe.data, f"{where}.data"),
        lambda: parse_config(load_task(recipe.task).Model, recipe.model, f"{where}.model"),
        lambda: parse_config(TrainConfig, recipe.train, f"{where}.train"),
    ]


def _student_checks(name: str, student: Student, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"students.{name}.passes"

    def check_model(changes: dict[str, Any], here: str) -> object:
        kind = load_task(recipe.task).Model
        teacher = parse_config(kind, recipe.model, f"recipes.{student.recipe}.model")
        return parse_config(kind, teacher.changed(changes), here)

    def options() -> type[Config]:
        return load_task(recipe.task).Options

    checks: list[Callable[[], object]] = [lambda: parse_passes(student.passes, where)]
    for index, block in enumerate(student.passes):
        for kind, parameters in block.items():
            here = f"{where}.{index}.{kind}"
            if parameters.get("model"):
                checks.append(partial(check_model, parameters["model"], f"{here}.model"))
            for key, of_recipe, config in (
                ("train", recipe.train, lambda: TrainConfig),
                ("sequence", {}, options),
            ):
                if parameters.get(key):  # what a pass leaves out is the recipe's, and is checked there
                    values = {**of_recipe, **parameters[key]}
                    checks.append(partial(_parse_late, config, values, f"{here}.{key}"))
    return checks


def _parse_late(kind: Callable[[], type[Config]], values: dict[str, Any], where: str) -> object:
    return parse_config(kind(), values, where)


def _variant_checks(name: str, variant: Variant, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"variants.{name}"
    return [
        lambda: parse_config(load_task(recipe.task).Options, variant.options, f"{where}.options"),
        lambda: tolerance_for(variant.precision, variant.tolerance, f"{where}.tolerance"),
    ]
