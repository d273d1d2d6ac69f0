"""The deployable folder: graphs, assets, golden examples, model card and the manifest that vouches for every file.

Torch-free and standard library only: an edge device loads it too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import ModelpressError
from components.core.files import sha256_file, write_json
from components.core.onnx_external_data import external_locations
from components.core.sealed_folder import is_inside, verify

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SIGNATURE = "model.sig"  # beside the manifest where a bundle is signed (deploy/signing.py); it vouches for the manifest
MANIFEST_BYTES = 4 * 2**20  # a real one has a few thousand

_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("task", "recipe", "variant", "parent", "precision", "runtime", "predictor"), str),
    **dict.fromkeys(("options", "graphs", "parity", "quantization", "lineage", "files"), dict),
    "parameters": int,
}


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
    quantization: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    root: Path
    manifest: Manifest

    @classmethod
    def load(cls, root: Path) -> Bundle:
        """Read a bundle after checking that it holds exactly the files its manifest names, unchanged.

        A signature may lie beside the manifest; whose it is, `deploy.signing` checks.

        Raises:
            ModelpressError: no bundle there, a changed, missing, linked or unknown file, a graph that is not among
                the files or takes weights from what is not, or a newer schema.
        """
        manifest = _parse(_read_manifest(root), root)
        verify(root, manifest.files, exempt=(MANIFEST, SIGNATURE))
        for graph in manifest.graphs.values():
            _check_graph(root, graph.file, manifest.files)
        return cls(root, manifest)

    @classmethod
    def save(cls, root: Path, manifest: Manifest) -> Bundle:
        """Write the manifest over the files that stand in `root` already, with their digests."""
        present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        names = sorted(present - {MANIFEST, SIGNATURE})
        sealed = Manifest(**{**vars(manifest), "files": {name: sha256_file(root / name) for name in names}})
        write_json(root / MANIFEST, asdict(sealed))
        return cls(root, sealed)

    @property
    def assets(self) -> Path:
        """The folder of what the predictor needs beside its graphs (tokenizers, label names)."""
        return self.root / "assets"

    def size_bytes(self) -> int:
        """Return the bytes of the graphs and assets: what an edge device must hold to answer."""
        return sum((self.root / name).stat().st_size for name in self._payload())

    def deflated_bytes(self) -> int:
        """Return the bytes of the same files under DEFLATE (zip's and gzip's method): what a download takes.

        What unstructured pruning is worth shows here alone.
        """
        return sum(len(zlib.compress((self.root / name).read_bytes())) for name in self._payload())

    def _payload(self) -> list[str]:
        return [name for name in self.manifest.files if _is_payload(name)]


def _is_payload(name: str) -> bool:
    return name.endswith(".onnx") or name.startswith("assets/")


def _read_manifest(root: Path) -> Any:
    path = root / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise ModelpressError(f"{root}: not a bundle (no {MANIFEST}); `modelpress status` lists the packaged ones")
    if path.stat().st_size > MANIFEST_BYTES:
        raise ModelpressError(f"{path}: {path.stat().st_size} bytes, a manifest has at most {MANIFEST_BYTES}")
    try:
        return json.loads(path.read_bytes().decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ModelpressError(f"{path}: not a JSON file ({error})") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: two readers might each believe another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _parse(raw: Any, root: Path) -> Manifest:
    try:
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ModelpressError(
                f"{root}: manifest schema {raw['schema_version']!r}, this modelpress reads {SCHEMA_VERSION}"
            )
        for name, kind in _KINDS.items():
            if name in raw and not isinstance(raw[name], kind):
                raise TypeError(f"{name} is no {kind.__name__}")
        return Manifest(**{**raw, "graphs": {name: _graph(graph) for name, graph in raw["graphs"].items()}})
    except (KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ModelpressError(f"{root / MANIFEST}: malformed manifest ({type(error).__name__}: {reason})") from None


def _graph(raw: Mapping[str, Any]) -> GraphInfo:
    inputs, outputs = (
        tuple(TensorInfo(tensor["name"], tensor["dtype"], tuple(tensor["shape"])) for tensor in raw[side])
        for side in ("inputs", "outputs")
    )
    if not isinstance(raw["file"], str):
        raise TypeError("a graph's file is no str")
    return GraphInfo(raw["file"], inputs, outputs, raw["opset"])


def _check_graph(root: Path, file: str, files: Mapping[str, str]) -> None:
    """Refuse a graph that is not sealed, and one whose weights would come from a file that is not."""
    if file not in files:
        raise ModelpressError(f"{root}: graph {file!r} is not among the manifest's files; package the variant again")
    for location in external_locations(root / file):
        if not is_inside(location) or str(PurePosixPath(file).parent / location) not in files:
            raise ModelpressError(f"{root / file}: takes weights from {location!r}, which is not a file of the bundle")
