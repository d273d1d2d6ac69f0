"""dvc.lock in the order `dvc repro` gives it, however parallel stages finished: the same work, the same file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.core.files import write_text
from pipelines.dvc_access import locked_repo


def stage_order(root: Path) -> list[str]:
    """Return the stages of dvc.lock in file order."""
    from dvc.utils.serialize import load_yaml

    path = root / "dvc.lock"
    return list(load_yaml(path).get("stages", {})) if path.exists() else []


def settle_order(root: Path, before: Iterable[str], plan: Iterable[str]) -> None:
    """Put the stages that were not in dvc.lock `before` after those that were, in plan order, as `dvc repro` would."""
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
