"""The same model and the same pictures through other tools: accuracy, bytes, latency.

    python3 -m venv PEERS && PEERS/bin/pip install torch==2.13.0
    PEERS/bin/pip install nncf==3.4.0 olive-ai==0.13.0 torch-pruning==1.6.1 onnxruntime==1.32.0 requests
    python -m benchmarks.compression_peers PEERS/bin/python [RECIPE]     (after `modelpress run RECIPE`)

Writes benchmarks/results/compression_peers-RECIPE.json. Quantizers get our fp32 graph and the pictures we calibrate on.
Torch-Pruning gets the teacher of a recipe with a pruned student: it removes channels by the same criterion,
in the same blocks and within the same limit for a layer, until it has as many parameters; the fine-tuning is ours.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graph_timing import compare
from benchmarks.quantization import export, load_recipe
from components.core.files import read_json, write_json

QUANTIZERS = ("onnxruntime", "nncf", "nncf accuracy control", "olive")
OURS = "modelpress"
TOOLS = Path(__file__).with_name("compression_peer_tools.py")
BATCHES = (1, 32)


def main() -> None:
    """Let every tool make its graph, score and time them all, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="of the peers' environment")
    parser.add_argument("recipe", nargs="?", default="fashion-mobilenet")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", choices=["quantize", "prune"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        {"quantize": _prepare_quantization, "prune": _prune}[options.worker](options)
        return
    from components.evaluation.hardware import describe

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {}
        _worker(options, "quantize", folder)  # torch's threads end with its process
        for tool in QUANTIZERS:
            print(f"== {tool}", flush=True)
            out = folder / f"{tool}.onnx"
            subprocess.run([options.python, TOOLS, tool, folder, out], check=True, stdout=subprocess.DEVNULL)
        quantized = {OURS: folder / "int8/classify.onnx", **{tool: folder / f"{tool}.onnx" for tool in QUANTIZERS}}
        tables["quantized"] = _compare(options, {"fp32": folder / "fp32.onnx", **quantized}, folder)
        if _pruned_student(options.recipe):
            print("== torch-pruning", flush=True)
            _worker(options, "prune", folder)
            pruned = {tool: folder / f"pruned/{tool}/classify.onnx" for tool in (OURS, "torch-pruning")}
            tables["pruned"] = _compare(options, {"fp32": folder / "fp32.onnx", **pruned}, folder)
            for tool, facts in read_json(folder / "pruned/facts.json").items():
                tables["pruned"][tool].update(facts)
    result = {"recipe": options.recipe, "tables": tables, "versions": _versions(options.python), "hardware": describe()}
    write_json(Path(f"benchmarks/results/compression_peers-{options.recipe}.json"), result)
    print(json.dumps(result, indent=2))


def _worker(options: argparse.Namespace, kind: str, folder: Path) -> None:
    command = ["-m", "benchmarks.compression_peers", str(options.python), options.recipe, "--worker", kind]
    subprocess.run([sys.executable, *command, "--folder", str(folder)], check=True)


def _versions(python: Path) -> dict[str, str]:
    names = ("nncf", "olive-ai", "torch-pruning", "onnxruntime")
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return {OURS: importlib.metadata.version("modelpress"), **json.loads(done.stdout)}


def _prepare_quantization(options: argparse.Namespace) -> None:
    """Write our two graphs, the calibration pictures and dev, all as the graph takes them."""
    from components.core.params import Calibration, load_params
    from components.core.tolerance import tolerance_for
    from components.export.calibration import calibration_inputs

    task, _, root = load_recipe(options.recipe)
    folder = options.folder
    export(options.recipe, folder)
    (folder / "fp32.onnx").write_bytes((folder / "fp32/classify.onnx").read_bytes())
    recorder = _Recorder(folder / "fp32.onnx")
    predictor = _predictor(task, recorder, root)
    for inputs in calibration_inputs(task.dataset(root, "train"), Calibration()):
        predictor.predict(inputs)
    np.savez(folder / "calibration.npz", image=np.concatenate(recorder.images))
    recorder.images.clear()
    dev = task.dataset(root, "dev")
    predictor.predict(dev.inputs())
    limits = tolerance_for("int8", load_params().variants[f"{options.recipe}-int8"].tolerance, "tolerance")
    images = np.concatenate(recorder.images)
    np.savez(folder / "dev.npz", image=images, label=dev.classes, max_drop=limits.quality_drop)


class _Recorder:
    """A session that keeps the pictures it is given."""

    def __init__(self, graph: Path) -> None:
        from components.inference.session import open_session

        self._session, self.images = open_session(graph), []  # type: ignore[var-annotated]

    def run(self, outputs: Any, inputs: Mapping[str, np.ndarray]) -> Any:
        self.images.append(inputs["image"])
        return self._session.run(outputs, inputs)


def _predictor(task: Any, session: Any, root: Path) -> Any:
    from components.inference.predictor import predictor_class

    return predictor_class(task.predictor)({"classify": session}, root / "assets", task.Options().model_dump())


def _compare(options: argparse.Namespace, graphs: Mapping[str, Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Return a row a graph: dev and test in percent, bytes, milliseconds, and how much faster than fp32."""
    from components.inference.session import open_session

    task, _, root = load_recipe(options.recipe)
    splits = {split: task.dataset(root, split) for split in ("dev", "test")}
    rows: dict[str, dict[str, Any]] = {}
    for name, path in graphs.items():
        predictor = _predictor(task, open_session(path), root)
        rows[name] = {split: task.score(predictor, data)[task.metric.name] for split, data in splits.items()}
        rows[name]["bytes"] = path.stat().st_size
    images = np.load(folder / "dev.npz")["image"]
    for batch in BATCHES:
        for name, (milliseconds, faster) in compare(graphs, "fp32", {"image": images[:batch]}, options.rounds).items():
            rows[name][f"ms_batch_{batch}"], rows[name][f"faster_batch_{batch}"] = milliseconds, faster
    return rows


def _pruned_student(recipe: str) -> str | None:
    from components.core.params import load_params

    students = load_params().students
    return next((name for name, s in students.items() if s.recipe == recipe and "prune" in s.passes[0]), None)


def _prune(options: argparse.Namespace) -> None:
    """Export our pruned student, and one of Torch-Pruning's with the same fine-tuning; note their multiply-adds."""
    sys.path.append(str(next(options.python.parent.parent.glob("lib/python3*/site-packages"))))  # behind our own
    import torch
    import torch_pruning

    from components.compression.distill import distilling_step
    from components.compression.passes import parse_passes
    from components.core.params import load_params
    from components.core.task import TrainedModel
    from components.core.tolerance import tolerance_for
    from components.export.export import export_model
    from components.training.weights import load_model
    from pipelines.fits import Fits

    key, params = _pruned_student(options.recipe), load_params()
    assert key is not None
    recipe, student = params.recipes[options.recipe], params.students[key]
    task, teacher, root = load_recipe(options.recipe)
    ours: Any = parse_passes(student.passes, key)[0]
    data = task.dataset(root, "train")
    fits = Fits("torch-pruning", task, recipe, {"prune": ours.model_dump()}, root, options.recipe)
    shutil.rmtree(fits.scratch.parent, ignore_errors=True)  # an earlier benchmark's channels may have been others
    context = fits.context(teacher)
    example = torch.zeros(2, *np.load(options.folder / "dev.npz")["image"].shape[1:], dtype=torch.uint8)
    models = {OURS: load_model(task, Path("models") / key, root)}
    with_slopes = copy.deepcopy(teacher.module).eval()
    for _, batch in zip(range(ours.batches), context.batches(data), strict=False):
        task.step(with_slopes, batch).loss.backward()
    # it rounds down to whole blocks, we round up: it removes as much as leaves it no fewer parameters than us
    for percent in range(round(100 * ours.remove["channels"]), 0, -1):
        module = copy.deepcopy(with_slopes)
        for parameter, its in zip(module.parameters(), with_slopes.parameters(), strict=True):
            parameter.grad = its.grad  # deepcopy leaves them out
        torch_pruning.pruner.BasePruner(
            module,
            example,
            importance=torch_pruning.importance.TaylorImportance(),
            pruning_ratio=percent / 100,
            global_pruning=ours.scope == "global",
            max_pruning_ratio=ours.max_ratio,
            round_to=ours.multiple_of,
            ignored_layers=[layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)],
        ).step()
        models["torch-pruning"] = TrainedModel(teacher.config, module)
        if models["torch-pruning"].parameters() >= models[OURS].parameters():
            break
    module.zero_grad()
    context.fit(module, distilling_step(task, teacher, ours.logit), data, ours.train)
    facts = {}
    for name, model in models.items():
        out = options.folder / "pruned" / name
        out.mkdir(parents=True)
        identity = {"recipe": options.recipe, "variant": name, "parent": key, "precision": "fp32", "runtime": "cpu"}
        export_model(
            task, model, task.Options(), task.dataset(root, "dev"), root / "assets",
            tolerance_for("fp32", {}, name), identity, out,
        )  # fmt: skip
        facts[name] = {**task.score_model(model.module, task.dataset(root, "dev")), "parameters": model.parameters()}
    write_json(options.folder / "pruned/facts.json", facts)


if __name__ == "__main__":
    main()
