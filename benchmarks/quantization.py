"""Static int8 against fp32, ONNX Runtime, one thread: dev and test, bytes, time a run; memory of calibrating.

    python -m benchmarks.quantization [RECIPE]   (after `modelpress run RECIPE`; writes
                                                  benchmarks/results/quantization-RECIPE.json)

Both graphs take turns in every round, the other one first each time; the ratio is the median over rounds. Memory is the
peak of a process while it calibrates on 1 and on 10 times the samples, less what it held just before (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graph_timing import milliseconds_by_round
from components.core.files import read_json, write_json

BATCHES = (1, 32)
SAMPLES = (256, 2560)  # eurosat has 3,600 pictures to train on


def main() -> None:
    """Export both variants, time them, measure the memory, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="fashion-mobilenet")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", choices=["export", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, default=SAMPLES[0], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    from components.evaluation.hardware import describe

    if options.worker == "export":
        export(options.recipe, options.folder)
        return
    if options.worker == "memory":
        print(calibration_megabytes(options.recipe, options.samples))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _worker(options.recipe, "export", "--folder", str(folder))  # torch's threads end with its process
        result = {
            "recipe": options.recipe,
            "hardware": describe(),
            "quality": read_json(folder / "quality.json"),
            "bytes": {kind: (folder / kind / "classify.onnx").stat().st_size for kind in ("fp32", "int8")},
            "batches": {f"batch_{batch}": timings(folder, batch, options.rounds) for batch in BATCHES},
            "calibration_mb": {
                str(count): float(_worker(options.recipe, "memory", "--samples", str(count)).split()[-1])
                for count in SAMPLES
            },
        }
    write_json(Path(f"benchmarks/results/quantization-{options.recipe}.json"), result)
    print(json.dumps(result, indent=2))


def _worker(recipe: str, kind: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.quantization", recipe, "--worker", kind, *arguments]
    # glibc learns from what is freed how to hold the next, so that its peak is 160 or 190 MB as it happens: told once,
    # it gives large arrays back at once, and the peak is what is held together
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def export(recipe: str, folder: Path) -> None:
    """Write both exports, their scores and 32 test inputs as the graph takes them into a folder."""
    from components.core.params import load_params
    from components.core.tolerance import tolerance_for
    from components.export.export import export_model
    from components.inference import load_predictor

    task, model, root = load_recipe(recipe)
    splits = {name: task.dataset(root, name) for name in ("train", "dev", "test")}
    variants = load_params().variants
    quality: dict[str, Any] = {}
    for kind in ("fp32", "int8"):
        variant = variants[f"{recipe}-{kind}"]
        (folder / kind).mkdir()
        identity = {"recipe": recipe, "variant": kind, "parent": recipe, "precision": kind, "runtime": "cpu"}
        tolerance = tolerance_for(kind, variant.tolerance, "tolerance")
        manifest = export_model(
            task,
            model,
            task.Options(),
            splits["dev"],
            root / "assets",
            tolerance,
            identity,
            folder / kind,
            variant.quantize,
            splits["train"],
        )
        predictor = load_predictor(folder / kind)
        quality[kind] = {name: task.score(predictor, splits[name]) for name in ("dev", "test")}
        quality[kind]["in_float"] = [
            layer["layer"] for layer in manifest.quantization.get("ranking", []) if layer["precision"] == "float"
        ]
        quality[kind]["certificates"] = manifest.quantization.get("certificates", {})
    write_json(folder / "quality.json", quality)
    np.save(folder / "images.npy", splits["test"].images[: max(BATCHES)])


def timings(folder: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Return each graph's median milliseconds a run and the median of the rounds' ratios with its range."""
    graphs = {kind: folder / kind / "classify.onnx" for kind in ("fp32", "int8")}
    found = milliseconds_by_round(graphs, {"image": np.load(folder / "images.npy")[:batch]}, rounds)
    ratios = sorted(a / b for a, b in zip(found["fp32"], found["int8"], strict=True))
    return {
        "ms": {kind: round(statistics.median(values), 4) for kind, values in found.items()},
        "speedup": round(statistics.median(ratios), 3),
        "speedup_range": [round(ratios[0], 3), round(ratios[-1], 3)],
    }


def calibration_megabytes(recipe: str, samples: int) -> float:
    """Return how far this process's memory rises while it calibrates."""
    from components.core.params import Calibration
    from components.export.calibration import watch
    from components.export.int8_forms import with_int8_forms
    from components.export.precision import build_graphs

    task, model, root = load_recipe(recipe)
    graphs = {k: with_int8_forms(g) for k, g in build_graphs(task, model, task.Options(), "fp32").items()}
    train = task.dataset(root, "train")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: exporting had one of its own
    before = _kilobytes("VmRSS")
    watch(task, graphs, train, root / "assets", {}, Calibration(samples=samples))
    after = _kilobytes("VmHWM")
    print(f"peak {after / 1024:.1f} MB", file=sys.stderr)
    return round((after - before) / 1024, 1)


def _kilobytes(field: str) -> int:
    """Return a field of this process's status: VmRSS (memory held now) or VmHWM (its peak)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1])


def load_recipe(recipe: str) -> tuple[Any, Any, Path]:
    """Return a recipe's task, its trained teacher, and its prepared data."""
    from components.core.params import load_params
    from components.core.task import load_task
    from components.training.weights import load_model

    task, root = load_task(load_params().recipes[recipe].task), Path("data/prepared") / recipe
    return task, load_model(task, Path("models") / recipe, root), root


if __name__ == "__main__":
    main()
