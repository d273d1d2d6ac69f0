"""dvc.lock in the order `dvc repro` gives it, however parallel stages finished: the same work, the same file.

The order before a run is noted in a file until the run has settled: one that is killed leaves it to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.core.files import read_json, write_json, write_text
from pipelines.dvc_access import locked_repo


def stage_order(root: Path) -> list[str]:
    """Return the stages of dvc.lock in file order."""
    from dvc.utils.serialize import load_yaml

    path = root / "dvc.lock"
    return list(load_yaml(path).get("stages", {})) if path.exists() else []


def is_unsettled(root: Path) -> bool:
    """Return whether a run was killed before it had put dvc.lock in order."""
    return _note(root).is_file()


def note_order(root: Path) -> list[str]:
    """Return and note the stages of dvc.lock in the order they had before this run, and killed ones before it."""
    before = read_json(_note(root)) if is_unsettled(root) else stage_order(root)
    write_json(_note(root), before)
    return list(before)


def settle_order(root: Path, before: Iterable[str], plan: Iterable[str]) -> None:
    """Put the stages that were not in dvc.lock `before` after those that were, in plan order, as `dvc repro` would."""
    _reorder(root, before, plan)
    _note(root).unlink(missing_ok=True)


def _note(root: Path) -> Path:
    return root / ".modelpress" / "lock_order.json"


def _reorder(root: Path, before: Iterable[str], plan: Iterable[str]) -> None:
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    path = root / "dvc.lock"
    wanted = list(dict.fromkeys([*before, *plan]))
    with locked_repo(root):
        now = stage_order(root)
        ordered = [name for name in wanted if name in now] + [name for name in now if name not in wanted]
        if ordered == now:
            return
        data = parse_yaml_for_update(path.read_text(encoding="utf-8"), path)
        for name in ordered:
            data["stages"].move_to_end(name)
        write_text(path, dumps_yaml(data))
