"""What stages made of names that params.yaml no longer has. DVC leaves it on disk; `modelpress clean` removes it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from components.core.params import Params


def orphans(root: Path, params: Params) -> list[str]:
    """Return outputs, below root, of stages that dvc.lock remembers and dvc.yaml no longer has, if they are there.

    Only what DVC recorded: a file that a user put beside it is never among them.
    """
    if not (root / "dvc.lock").is_file():
        return []
    stages, lock = (_stages(root / name) for name in ("dvc.yaml", "dvc.lock"))
    gone: set[str] = set()
    kept: set[str] = set()
    for name, entry in lock.items():
        paths = kept if _exists(name, stages, params) else gone
        paths.update(str(out["path"]) for out in entry.get("outs", []))
    return sorted(path for path in gone if _is_ours(path, kept) and (root / path).exists())


def _stages(path: Path) -> dict[str, Any]:
    # by libyaml: this is looked at behind every run, and DVC's own reading takes ten times as long
    whole = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}
    return dict(whole.get("stages", {}))


def _exists(name: str, stages: Mapping[str, Any], params: Params) -> bool:
    """Return whether dvc.yaml and params.yaml still have a stage such as `train@x`."""
    family, _, key = name.partition("@")
    if family not in stages or "foreach" not in stages[family]:
        return family in stages
    keys = stages[family]["foreach"]
    return key in (getattr(params, keys.strip("${}"), ()) if isinstance(keys, str) else map(str, keys))


def _is_ours(path: str, kept: set[str]) -> bool:
    """Return whether an output lies in the project and neither in, nor around, one of a present stage."""
    here = PurePosixPath(path)
    if here.is_absolute() or ".." in here.parts:
        return False
    return not any(here.is_relative_to(other) or PurePosixPath(other).is_relative_to(here) for other in kept)


def orphans_in_words(found: Sequence[str]) -> str:
    """Return one line about orphans."""
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return (
        f"Not in params.yaml any more, but still here: {', '.join(found[:2])}{more}; `modelpress clean` removes them."
    )


def show_orphans(root: Path, params: Params, console: Console) -> None:
    """Say in one line what is left of names that were taken out of params.yaml, if anything."""
    if found := orphans(root, params):
        console.print(f"\n{escape(orphans_in_words(found))}", style="yellow", highlight=False, soft_wrap=True)


def remove(root: Path, found: Sequence[str]) -> None:
    """Delete orphans, and the folders that are empty then."""
    for name in found:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        for folder in path.relative_to(root).parents[:-1]:
            if any((root / folder).iterdir()):
                break
            (root / folder).rmdir()
