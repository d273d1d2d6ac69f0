"""The full check of params.yaml: every task-specific block against the classes that will read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from components.compression.passes import parse_passes
from components.core.errors import ConfigError, ModelpressError
from components.core.params import Config, Params, Recipe, Student, Variant, parse_config
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
        for check in _recipe_checks(name, recipe):
            collect(check)
    for name, student in params.students.items():
        for check in _student_checks(name, student, params.recipes[student.recipe]):
            collect(check)
    for name, variant in params.variants.items():
        for check in _variant_checks(name, variant, params.recipes[variant.recipe]):
            collect(check)
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _recipe_checks(name: str, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"recipes.{name}"
    return [
        lambda: parse_config(load_task(recipe.task).Data, recipe.data, f"{where}.data"),
        lambda: parse_config(load_task(recipe.task).Model, recipe.model, f"{where}.model"),
        lambda: parse_config(TrainConfig, recipe.train, f"{where}.train"),
    ]


def _student_checks(name: str, student: Student, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"students.{name}.passes"

    def model() -> type[Config]:
        return load_task(recipe.task).Model

    checks: list[Callable[[], object]] = [lambda: parse_passes(student.passes, where)]
    for index, block in enumerate(student.passes):
        for kind, parameters in block.items():
            here = f"{where}.{index}.{kind}"
            for key, of_recipe, config in (
                ("train", recipe.train, lambda: TrainConfig),
                ("model", recipe.model, model),
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
