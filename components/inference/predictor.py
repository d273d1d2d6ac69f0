"""From a bundle on disk to something that answers."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from components.core.bundle import Bundle
from components.core.errors import ModelpressError
from components.inference.session import Session, open_session


class Predictor(ABC):
    """Pre-processing, graphs, post-processing. A module of components/inference ends with PREDICTOR = its class.

    sessions: one a graph, by the graph's name. assets: the bundle's folder of tokenizers, labels and the like.
    options: how the exported graph answers (the task's Options).
    """

    unit: ClassVar[str]  # what throughput counts

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        self.sessions, self.assets, self.options = sessions, assets, options

    @abstractmethod
    def predict(self, inputs: list[Any]) -> list[Any]:
        """Return one answer an input, in their order; servers call it from several threads at once."""

    @abstractmethod
    def count_units(self, answers: list[Any]) -> int:
        """Return how many units of work the answers took."""


def load_predictor(bundle: Path | Bundle, threads: int = 1) -> Predictor:
    """Return the predictor of a bundle: of a folder, every file of which is verified first, or one loaded already.

    Raises:
        ModelpressError: not a bundle, a changed file, or a graph that cannot be loaded.
    """
    if isinstance(bundle, Path):
        bundle = Bundle.load(bundle)
    root, manifest = bundle.root, bundle.manifest
    sessions = {
        name: open_session(root / graph.file, threads, manifest.runtime) for name, graph in manifest.graphs.items()
    }
    kind = predictor_class(manifest.predictor)
    try:
        return kind(sessions, bundle.assets, manifest.options)
    except (KeyError, OSError) as error:
        lacks = f"its {manifest.predictor} predictor lacks {error}"
        raise ModelpressError(f"{root}: {lacks}; package the variant again") from None


def predictor_class(name: str) -> type[Predictor]:
    """Return PREDICTOR of components.inference.<name>."""
    if not name.isidentifier():
        raise ModelpressError(f"predictor {name!r}: not a module's name")
    try:
        module = importlib.import_module(f"components.inference.{name}")
    except ModuleNotFoundError as error:
        raise ModelpressError(f"predictor {name!r}: {error}; install what the bundle needs") from None
    found: type[Predictor] | None = getattr(module, "PREDICTOR", None)
    if found is None:
        raise ModelpressError(f"predictor {name!r}: components/inference/{name}.py has no PREDICTOR")
    return found
