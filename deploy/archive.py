"""A bundle as one .zip file, and back: nothing in it is trusted before it is checked, nothing is half written.

Order: the zip's directory is bounded before it is read, names and sizes are checked before anything is unpacked, sizes
again while unpacking, and digests before the folder takes its place.
"""

from __future__ import annotations

import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.core.bundle import MANIFEST, SIGNATURE, Bundle
from components.core.errors import ModelpressError
from components.core.files import new_folder
from components.core.sealed_folder import is_inside

CHUNK = 2**20
# The record a zip ends with: signature, disks and counts, bytes and place of the directory, length of a comment.
_END = struct.Struct("<4s4H2LH")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bundle packs to the same bytes, whenever


@dataclass(frozen=True)
class Limits:
    """What an archive may at most hold; beyond it is a bomb, or no bundle."""

    files: int = 1000
    total_bytes: int = 2**31 - 1  # beyond it a zip needs its 64-bit form, which is refused
    ratio: int = 100  # unpacked to packed bytes of one file; weights reach 1.1, text 20
    free_bytes: int = 2**20  # a file up to this size may compress as well as it likes
    directory_bytes: int = 2**20  # of the zip's own list of files


DEFAULT_LIMITS = Limits()
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError)  # zipfile's words


def pack(root: Path, archive: Path) -> Path:
    """Write an intact bundle, with its signature where it has one, as a zip; return its path.

    Raises:
        ModelpressError: a damaged bundle, a file that is there already, or a bundle beyond the limits.
    """
    bundle = Bundle.load(root)
    if archive.exists():
        raise ModelpressError(f"{archive}: exists already; remove it or name another file")
    names = [MANIFEST, *(name for name in [SIGNATURE] if (root / name).is_file()), *sorted(bundle.manifest.files)]
    size = sum((root / name).stat().st_size for name in names)
    if size > DEFAULT_LIMITS.total_bytes:
        raise ModelpressError(
            f"{root}: {size} bytes, a zip holds at most {DEFAULT_LIMITS.total_bytes}; copy the folder"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}.") as folder:
        made = Path(folder, archive.name)
        with zipfile.ZipFile(made, "w", allowZip64=False) as target:
            for name in names:
                _add(target, root / name, name)
        _check(made, DEFAULT_LIMITS)  # what this machine packs, another one must unpack
        made.replace(archive)
    return archive


def _add(target: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
    with path.open("rb") as source, target.open(entry, "w") as packed:
        shutil.copyfileobj(source, packed, CHUNK)


def unpack(archive: Path, root: Path, limits: Limits = DEFAULT_LIMITS) -> Bundle:
    """Unpack a zip to a folder that is not there yet; return its bundle. Whole and verified, or not at all.

    Raises:
        ModelpressError: a name outside the folder, a link, a name twice, sizes beyond the limits or other than
            declared, a damaged zip, or a bundle that `Bundle.load` refuses.
    """
    if root.is_symlink() or (root.exists() and not (root.is_dir() and not any(root.iterdir()))):
        raise ModelpressError(f"{root}: exists already; remove it or name another folder")
    entries = _check(archive, limits)
    with new_folder(root) as temporary:
        try:
            with zipfile.ZipFile(archive) as source:
                for entry in entries:
                    _extract(source, entry, temporary / entry.filename)
            manifest = Bundle.load(temporary).manifest
        except ModelpressError as error:
            raise ModelpressError(str(error).replace(str(temporary), str(archive))) from None
        except _BROKEN as error:
            raise ModelpressError(f"{archive}: can't be unpacked ({_one_line(error)})") from None
    return Bundle(root, manifest)


def _check(archive: Path, limits: Limits) -> list[zipfile.ZipInfo]:
    """Return the files of a zip after checking its directory; nothing is unpacked."""
    try:
        with archive.open("rb") as file:
            problem = _end_problem(file, limits)
            if problem is None:
                with zipfile.ZipFile(file) as source:
                    entries = source.infolist()
                problem = next(_problems(entries, limits), None)
    except _BROKEN as error:
        raise ModelpressError(f"{archive}: can't be read as a zip ({_one_line(error)})") from None
    if problem is not None:
        raise ModelpressError(f"{archive}: {problem}; nothing was unpacked")
    return [entry for entry in entries if not entry.is_dir()]


def _end_problem(file: BinaryIO, limits: Limits) -> str | None:
    """Return why the zip's end record, which says how long its directory is, can't be trusted.

    Without a comment the record stands at the very end, so every reader finds the same one.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    last = file.read()
    if len(last) < _END.size or not last.startswith(b"PK\5\6"):
        return "not a zip file (or one with a comment at its end)"
    *_, count, directory_bytes, place, _ = _END.unpack(last)
    if count > limits.files or directory_bytes > limits.directory_bytes:
        return f"{count} files listed in {directory_bytes} bytes, at most {limits.files} in {limits.directory_bytes}"
    if place + directory_bytes + _END.size != size:
        return "bytes between its directory and its end, as a 64-bit zip has"
    return None


def _problems(entries: list[zipfile.ZipInfo], limits: Limits) -> Iterator[str]:
    """Yield what is wrong with the listed files, without unpacking any."""
    if len(entries) > limits.files:
        yield f"{len(entries)} files, at most {limits.files}"
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename.removesuffix("/")
        if not is_inside(name) or entry.filename.removesuffix("/") != name:
            yield f"{entry.orig_filename!r} leads outside the bundle"
        if name.casefold() in seen:
            yield f"{name!r} stands in it twice"
        seen.add(name.casefold())
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
            yield f"{name!r} is a link or a device; a bundle holds plain files only"
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"{name!r} is encrypted or packed in a way other than deflate"
        if entry.file_size > max(limits.free_bytes, limits.ratio * entry.compress_size):
            yield f"{name!r} would unpack from {entry.compress_size} to {entry.file_size} bytes: a bomb"
    total = sum(entry.file_size for entry in entries)
    if total > limits.total_bytes:
        yield f"{total} bytes when unpacked, at most {limits.total_bytes}: a bomb"
    if MANIFEST not in seen:
        yield f"no bundle (no {MANIFEST} at its top)"


def _extract(source: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> None:
    """Write one file; zipfile hands out no byte beyond the declared size, whatever is packed behind it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with source.open(entry) as packed, to.open("xb") as target:
        shutil.copyfileobj(packed, target, CHUNK)
    if to.stat().st_size != entry.file_size:
        raise ValueError(f"{entry.filename!r} is not as long as declared")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
