"""The deployable folder: graphs, assets, golden examples, model card and the manifest that vouches for every file.

Torch-free and standard library only: an edge device loads it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import ModelpressError
from components.core.files import read_json, sha256_file, write_json

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TensorInfo:
    """A graph's input or output: ONNX dtype name and shape, a string where a size is free (or None)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class GraphInfo:
    """One ONNX file of a bundle."""

    file: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle is, where it came from, and the sha256 of each of its other files."""

    task: str
    recipe: str
    variant: str
    parent: str
    precision: str
    runtime: str
    predictor: str
    options: Mapping[str, Any]
    graphs: Mapping[str, GraphInfo]
    parameters: int
    parity: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    root: Path
    manifest: Manifest

    @classmethod
    def load(cls, root: Path) -> Bundle:
        """Read a bundle after checking that it holds exactly the files its manifest names, unchanged.

        Raises:
            ModelpressError: no bundle there, a changed, missing, linked or unknown file, or a newer schema.
        """
        if not (root / MANIFEST).is_file():
            raise ModelpressError(f"{root}: not a bundle (no {MANIFEST}); `modelpress status` lists the packaged ones")
        manifest = _parse(read_json(root / MANIFEST), root)
        _verify(root, manifest.files)
        return cls(root, manifest)

    @classmethod
    def save(cls, root: Path, manifest: Manifest) -> Bundle:
        """Write the manifest over the files that stand in `root` already, with their digests."""
        names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p != root / MANIFEST)
        sealed = Manifest(**{**vars(manifest), "files": {name: sha256_file(root / name) for name in names}})
        write_json(root / MANIFEST, asdict(sealed))
        return cls(root, sealed)

    @property
    def assets(self) -> Path:
        """The folder of what the predictor needs beside its graphs (tokenizers, label names)."""
        return self.root / "assets"

    def size_bytes(self) -> int:
        """Return the bytes of the graphs and assets: what an edge device must hold to answer."""
        return sum((self.root / name).stat().st_size for name in self.manifest.files if _is_payload(name))


def _is_payload(name: str) -> bool:
    return name.endswith(".onnx") or name.startswith("assets/")


def _parse(raw: Any, root: Path) -> Manifest:
    try:
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ModelpressError(
                f"{root}: manifest schema {raw['schema_version']}, this modelpress reads {SCHEMA_VERSION}"
            )
        graphs = {
            name: GraphInfo(
                graph["file"],
                tuple(TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in graph["inputs"]),
                tuple(TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in graph["outputs"]),
                graph["opset"],
            )
            for name, graph in raw["graphs"].items()
        }
        return Manifest(**{**raw, "graphs": graphs})
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelpressError(f"{root / MANIFEST}: malformed manifest ({type(error).__name__}: {error})") from None


def _verify(root: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelpressError(f"{root}: manifest names {name!r}, which is outside the bundle")
        path = root / name
        if path.is_symlink() or not path.is_file():
            raise ModelpressError(f"{path}: named in the manifest but missing; package the variant again")
        if sha256_file(path) != digest:
            raise ModelpressError(f"{path}: sha256 differs from the manifest; the bundle was changed after packaging")
    unknown = {p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()} - {MANIFEST, *files}
    if unknown:
        raise ModelpressError(f"{root}: {sorted(unknown)[0]} is not in the manifest; remove it or package again")
