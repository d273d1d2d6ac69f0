"""What a task's report shows beside the figures every task has: one module here, named as the task, where there is one.

It offers `pictures(predictor, examples, teacher) -> list[Picture]`; predictor: of the chosen bundle, examples: the test
split, teacher: the recipe's own TrainedModel, for what no exported graph shows.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Picture:
    """A titled figure: `body` is HTML or SVG that needs nothing from elsewhere and takes the page's colours.

    files: what of it is worth a file of its own beside the page (and so in MLflow), by name.
    """

    title: str
    caption: str
    body: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def has_pictures(task: str) -> bool:
    """Return whether a task has pictures of its own."""
    return (Path(__file__).parent / f"{task}.py").is_file()


def task_pictures(task: str, predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the pictures of a task that has some."""
    found: list[Picture] = importlib.import_module(f"{__name__}.{task}").pictures(predictor, examples, teacher)
    return found
