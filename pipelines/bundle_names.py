"""What a user may call a bundle: its folder, its variant, its recipe (the chosen variant), or models:/NAME@alias."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import ModelpressError, did_you_mean
from components.core.files import read_json


def find_bundle(root: Path, name: str) -> Path:
    """Return the folder of a bundle.

    Raises:
        ModelpressError: nothing goes by that name, or it is not packaged yet.
    """
    if name.startswith("models:/"):
        from components.tracking.registry import download_bundle

        return download_bundle(root, name)
    if (Path(name) / "manifest.json").is_file():
        return Path(name)
    packaged = {path.parent.name: path.parent for path in sorted(root.glob("bundles/*/*/manifest.json"))}
    if name in packaged:
        return packaged[name]
    selection = root / "metrics" / name / "selection.json"
    if selection.is_file():
        return root / "bundles" / name / str(read_json(selection)["selected"])
    known = [*packaged, *(path.parent.name for path in root.glob("metrics/*/selection.json"))]
    hint = did_you_mean(name, known) or "; nothing is packaged yet, `modelpress run` does it"
    raise ModelpressError(f"no bundle {name!r}{hint}")
