"""How much faster half of a network is, by the multiples of channels its layers keep: ONNX Runtime, fp32, one thread.

    python -m benchmarks.channel_blocks [RECIPE]   (after `modelpress run RECIPE`; writes
                                                    benchmarks/results/channel_blocks-RECIPE.json)

The teacher loses at least half of its channels by Taylor estimate, at most three quarters of a layer, and is not
trained again: how long a graph takes does not depend on its weights. All graphs take turns in every round.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graph_timing import compare
from benchmarks.quantization import load_recipe
from components.core.files import write_json

BATCHES = (1, 32)
MULTIPLES = (1, 4, 8, 16)
SHARE, MAX_RATIO = 0.5, 0.75


def main() -> None:
    """Shrink, export and time, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="fashion-cnn")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    from components.core.tolerance import tolerance_for
    from components.evaluation.hardware import describe
    from components.export.export import export_model

    task, teacher, root = load_recipe(options.recipe)
    models, dev = {"teacher": teacher, **halves(task, teacher, root, options.recipe)}, task.dataset(root, "dev")
    about = {"recipe": options.recipe, "parent": options.recipe, "precision": "fp32", "runtime": "cpu"}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        graphs = {}
        for key, model in models.items():
            out = Path(name) / key
            out.mkdir()
            tolerance, identity = tolerance_for("fp32", {}, key), {**about, "variant": key}
            export_model(task, model, task.Options(), dev, root / "assets", tolerance, identity, out)
            graphs[key] = out / "classify.onnx"
            channels = list(model.config.explicit().channels)
            rows[key] = {"channels": channels, **task.score_model(model.module, dev), "ms": {}, "faster": {}}
            rows[key]["gone"] = round(1 - sum(channels) / sum(rows["teacher"]["channels"]), 4)
        for batch in BATCHES:
            feeds = {"image": np.ascontiguousarray(dev.images[:batch])}
            for key, (milliseconds, faster) in compare(graphs, "teacher", feeds, options.rounds).items():
                rows[key]["ms"][f"batch_{batch}"], rows[key]["faster"][f"batch_{batch}"] = milliseconds, faster
    result = {"recipe": options.recipe, "models": rows, "hardware": describe()}
    write_json(Path(f"benchmarks/results/channel_blocks-{options.recipe}.json"), result)
    print(json.dumps(result, indent=2))


def halves(task: Any, teacher: Any, root: Path, recipe: str) -> dict[str, Any]:
    """Return the teacher without half of its channels or barely more, once for each multiple."""
    from components.compression.choice import choose, round_up
    from components.compression.prune import shrink, taylor
    from components.core.params import load_params
    from pipelines.fits import Fits

    context = Fits("channel-blocks", task, load_params().recipes[recipe], {}, root, recipe).context(teacher)
    groups = teacher.module.pruning_groups()
    importance, units = taylor(teacher, groups, context, 30), sum(group.units for group in groups)
    found = {}
    for multiple in MULTIPLES:
        for percent in range(round(100 * SHARE), round(100 * MAX_RATIO) + 1):  # rounding up takes some of it back
            kept = choose(groups, importance, {"channels": percent / 100}, "global", None, MAX_RATIO)
            kept = round_up(kept, importance, multiple)
            if sum(map(len, kept)) <= (1 - SHARE) * units:
                found[str(multiple)] = shrink(teacher, groups, kept, context)
                break
    return found


if __name__ == "__main__":
    main()
