"""The full check of params.yaml: every task-specific block against the classes that will read it, before any stage runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from components.compression.passes import parse_passes
from components.core.errors import ConfigError, ModelpressError
from components.core.params import Params, Recipe, Student, Variant, parse_config
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
    checks: list[Callable[[], object]] = [lambda: parse_passes(student.passes, where)]
    for index, block in enumerate(student.passes):
        for kind, parameters in block.items():
            here = f"{where}.{index}.{kind}"
            train = {**recipe.train, **(parameters.get("train") or {})}
            checks.append(lambda train=train, here=here: parse_config(TrainConfig, train, f"{here}.train"))  # type: ignore[misc]
            model = {**recipe.model, **(parameters.get("model") or {})}
            checks.append(
                lambda model=model, here=here: parse_config(load_task(recipe.task).Model, model, f"{here}.model")  # type: ignore[misc]
            )
    return checks


def _variant_checks(name: str, variant: Variant, recipe: Recipe) -> list[Callable[[], object]]:
    where = f"variants.{name}"
    return [
        lambda: parse_config(load_task(recipe.task).Options, variant.options, f"{where}.options"),
        lambda: tolerance_for(variant.precision, variant.tolerance, f"{where}.tolerance"),
    ]
