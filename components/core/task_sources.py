"""Which source files a task's data and models are made by: what is made with them goes stale when one changes.

dvc.yaml cannot name them: a folder of all models would let a new one of another task stale every training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.core.imports import imported_modules

PACKAGES = ("data", "evaluation", "inference", "models", "tasks")  # of components: what some tasks have and others not
COMMON = ("predictor.py", "session.py")  # of all of them; dvc.yaml names these where they count


def task_sources(task: str, predictor: str, root: Path = Path()) -> list[Path]:
    """Return the task's module, its predictor's, and every module of PACKAGES that one of them imports, however deep.

    root: the folder that holds `components`; the files come sorted, relative to it.
    """
    left = [root / "components" / "tasks" / f"{task}.py", root / "components" / "inference" / f"{predictor}.py"]
    found: set[Path] = set()
    while left:
        path = left.pop()
        if path not in found and path.is_file() and path.name not in COMMON:
            found.add(path)
            left.extend(_imported(path, root))
    return sorted(path.relative_to(root) for path in found)


def _imported(path: Path, root: Path) -> Iterator[Path]:
    for name in imported_modules(path):
        parts = name.split(".")
        if len(parts) > 2 and parts[0] == "components" and parts[1] in PACKAGES:
            yield (root / Path(*parts)).with_suffix(".py")
            yield root / Path(*parts) / "__init__.py"
