"""What a task's report shows beside the figures every task has: one module here, named as the task, where there is one.

It offers `pictures(predictor, examples, teacher) -> list[Picture]`; predictor: of the chosen bundle, examples: the test
split, teacher: the recipe's own TrainedModel, for what no exported graph shows.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Picture:
    """A titled figure: `body` is HTML or SVG that needs nothing from elsewhere and takes the page's colours."""

    title: str
    caption: str
    body: str


def has_pictures(task: str) -> bool:
    """Return whether a task has pictures of its own."""
    return (Path(__file__).parent / f"{task}.py").is_file()


def task_pictures(task: str, predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the pictures of a task that has some."""
    found: list[Picture] = importlib.import_module(f"{__name__}.{task}").pictures(predictor, examples, teacher)
    return found
