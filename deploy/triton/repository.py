"""A Triton model repository from a bundle: one model a graph, a folder a version, warmed up by a golden example.

DIR/<model>/config.pbtxt    DIR/<model>/warmup/<input>    DIR/<model>/<version>/model.onnx, manifest.json
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.bundle import MANIFEST, Bundle, GraphInfo
from components.core.errors import ModelpressError
from components.core.files import new_folder, read_json, write_bytes, write_text
from components.core.onnx_external_data import external_locations
from components.core.sealed_folder import is_inside
from components.inference.predictor import predictor_class
from components.inference.session import Session, open_session
from deploy.triton.config import MODEL_FILE, Serving, config_text, tensors_text

CONFIG = "config.pbtxt"
WARM_UP = "warmup"
DEFAULT_SERVING = Serving()


def export_triton(
    root: Path,
    repository: Path,
    version: int | None = None,
    gpu: bool | None = None,
    serving: Serving = DEFAULT_SERVING,
) -> list[Path]:
    """Add a bundle's graphs to a model repository; return their version folders.

    The model is named after the variant; with several graphs, <variant>-<graph>. version: of all its graphs; without,
    one more than the highest that is there. gpu: run there; without, an fp16 graph and one exported for it do.

    Raises:
        ModelpressError: a damaged bundle, a version that is there already, or one whose inputs or outputs differ from
            those of the versions that are.
    """
    bundle = Bundle.load(root)
    if gpu is None:
        gpu = bundle.manifest.runtime == "gpu" or bundle.manifest.precision == "fp16"
    models = {graph: repository / name for graph, name in _model_names(bundle).items()}
    number = version or 1 + max([0, *(old for model in models.values() for old in _versions(model))])
    for graph, model in models.items():
        _refuse_clash(model, number, bundle.manifest.graphs[graph])
    inputs = _golden_inputs(bundle)
    configs = {
        graph: config_text(model.name, bundle.manifest.graphs[graph], gpu, serving, inputs.get(graph, {}))
        for graph, model in models.items()
    }
    return [
        _write_model(bundle, graph, model / str(number), configs[graph], inputs.get(graph, {}))
        for graph, model in models.items()
    ]


def _model_names(bundle: Bundle) -> dict[str, str]:
    variant, graphs = bundle.manifest.variant, list(bundle.manifest.graphs)
    names = {graph: variant if len(graphs) == 1 else f"{variant}-{graph}" for graph in graphs}
    for name in (*names.values(), *(i.name for graph in bundle.manifest.graphs.values() for i in graph.inputs)):
        if not is_inside(name) or "/" in name:
            raise ModelpressError(f"{bundle.root}: {name!r} can't name a file of a model repository")
    return names


def _versions(model: Path) -> list[int]:
    return [int(path.name) for path in model.glob("*") if path.name.isdecimal()]


def _refuse_clash(model: Path, number: int, graph: GraphInfo) -> None:
    if (model / str(number)).exists():
        raise ModelpressError(f"{model}: version {number} is there already; name another with --version")
    config = model / CONFIG
    if config.is_file() and tensors_text(graph) not in config.read_text(encoding="utf-8"):
        raise ModelpressError(f"{config}: its inputs or outputs differ from this bundle's; use another folder")


def _write_model(bundle: Bundle, graph: str, version: Path, config: str, warm_up: Mapping[str, np.ndarray]) -> Path:
    source = bundle.root / bundle.manifest.graphs[graph].file
    with new_folder(version) as folder:
        shutil.copyfile(source, folder / MODEL_FILE)
        for location in external_locations(source):  # Bundle.load confined them to the bundle
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / location, folder / location)
        shutil.copyfile(bundle.root / MANIFEST, folder / MANIFEST)  # says which bundle this was
    for name, value in warm_up.items():
        write_bytes(version.parent / WARM_UP / name, np.ascontiguousarray(value).tobytes())
    write_text(version.parent / CONFIG, config)
    return version


def _golden_inputs(bundle: Bundle) -> dict[str, dict[str, np.ndarray]]:
    """Return what each graph is given ({graph: {input: array}}) when the predictor answers the first golden example."""
    golden = bundle.root / "golden.json"
    examples = read_json(golden)["examples"] if golden.is_file() else []
    if not examples:
        return {}
    manifest, seen = bundle.manifest, dict[str, dict[str, np.ndarray]]()
    sessions = {
        name: _Listener(open_session(bundle.root / graph.file), seen.setdefault(name, {}))
        for name, graph in manifest.graphs.items()
    }
    predictor_class(manifest.predictor)(sessions, bundle.assets, manifest.options).predict([examples[0]["input"]])
    return seen


class _Listener:
    """A session that keeps its first inputs."""

    def __init__(self, session: Session, seen: dict[str, np.ndarray]) -> None:
        self._session, self._seen = session, seen

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        if not self._seen:
            self._seen.update(inputs)
        return self._session.run(outputs, inputs)
