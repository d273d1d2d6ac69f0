"""A folder that an export fills: whole or not at all, and never in the place of something that is no earlier export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.core.errors import ModelpressError
from components.core.files import new_folder


@contextmanager
def export_folder(out: Path, mark: str) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of `out` when the block ends without an error.

    mark: a file that every such export holds at its top.

    Raises:
        ModelpressError: `out` is a file, or a folder with other things in it.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ModelpressError(f"{out}: not a folder; name a new one")
    if out.is_dir() and any(out.iterdir()) and not (out / mark).is_file():
        raise ModelpressError(f"{out}: holds other files (no {mark} of an earlier export); name a new folder")
    with new_folder(out) as folder:
        yield folder
