"""A folder that holds exactly the files a list of digests names: nothing changed, missing, added, linked or outside."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from components.core.errors import ModelpressError
from components.core.files import sha256_file


def is_inside(name: str) -> bool:
    """Return whether a POSIX path stays below the folder it is relative to, written in the one plain way.

    Backslashes and colons are refused too: they are separators and drives where Windows unpacks the folder.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set("\\:")
    return plain and all(part not in ("", ".", "..") for part in name.split("/"))


def verify(root: Path, digests: Mapping[str, str], exempt: Collection[str] = ()) -> None:
    """Check that `root` holds the files of `digests` ({name: hex sha256}) and, `exempt` apart, nothing else.

    Raises:
        ModelpressError: the first thing found wrong.
    """
    for name in digests:
        if not is_inside(name):
            raise ModelpressError(f"{root}: manifest names {name!r}, which is outside the bundle")
    present = files_below(root)
    folders = {str(parent) for name in digests for parent in PurePosixPath(name).parents}
    for name in sorted(digests):
        if name not in present:
            raise ModelpressError(f"{root / name}: named in the manifest but missing; package the variant again")
    for name in sorted(present):
        if name.rstrip("/") not in (folders if name.endswith("/") else {*digests, *exempt}):
            raise ModelpressError(f"{root}: {name!r} is not in the manifest; remove it or package again")
    for name in sorted(digests):
        if _digest(root / name) != digests[name]:
            raise ModelpressError(
                f"{root / name}: sha256 differs from the manifest; the bundle was changed after packaging"
            )


def files_below(root: Path) -> set[str]:
    """Return the POSIX paths of all files below a folder, and those of folders with a slash at the end.

    Raises:
        ModelpressError: a link or a device among them (its content lies elsewhere), or a folder that can't be read.
    """
    return set(_walk(root, ""))


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ModelpressError(f"{folder}: can't be read ({error.strerror})") from None
    for entry in entries:
        mode = entry.stat(follow_symlinks=False).st_mode
        name = prefix + entry.name
        if stat.S_ISDIR(mode):
            yield f"{name}/"
            yield from _walk(folder / entry.name, f"{name}/")
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise ModelpressError(f"{folder}: {entry.name!r} is a link or a device; a bundle holds plain files only")


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ModelpressError(f"{path}: can't be read ({error.strerror})") from None
