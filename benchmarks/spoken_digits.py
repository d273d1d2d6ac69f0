"""What three cells remember, what the way back adds, and a WaveNet beside them, on the test recordings of fsdd.

    python -m benchmarks.spoken_digits    (writes benchmarks/results/spoken_digits.json)

It asks the fp32 and int8 bundles of the digits-* recipes, so these must be up to date (`modelpress run digits-gru` and
so on). Accuracy does not depend on the machine's load.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from components.core.bundle import Bundle
from components.core.files import write_json
from components.core.task import load_task
from components.inference import load_predictor

BUNDLES = {  # by the model's name: its recipe
    **{n: n for n in ("digits-rnn", "digits-gru-dry", "digits-lstm", "digits-gru", "digits-bigru", "digits-wavenet")},
    "digits-bigru-student": "digits-bigru",
}
SILENCES_S = (0, 0.25, 0.5, 1, 2, 4, 8)


def main() -> None:
    """Score every recipe's bundle with each silence behind the recordings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spoken_digits.json"))
    options = parser.parse_args()
    found = {}
    for model, recipe in BUNDLES.items():
        if (Path("bundles") / recipe / f"{model}-fp32").is_dir():
            found[model] = study(model, recipe)
            print(model, found[model], flush=True)
        else:
            print(f"skipping {model}: `modelpress run {recipe}` makes its bundles", flush=True)
    write_json(options.out, {"silences_s": SILENCES_S, "recipes": found})


def study(model: str, recipe: str) -> dict[str, Any]:
    """Return a model's parameters, its accuracy at fp32 behind each silence, and at int8 behind none."""
    task = load_task("sequence_classification")
    examples = task.dataset(Path("data/prepared") / recipe, "test")
    fp32, int8 = (Bundle.load(Path("bundles") / recipe / f"{model}-{precision}") for precision in ("fp32", "int8"))
    predictor = load_predictor(fp32)
    behind = [task.score(predictor, examples.with_silence(s))["accuracy"] for s in SILENCES_S]  # type: ignore[attr-defined]
    return {
        "parameters": fp32.manifest.parameters,
        "bytes": {"fp32": fp32.size_bytes(), "int8": int8.size_bytes()},
        "accuracy": [round(value, 2) for value in behind],
        "int8_accuracy": round(task.score(load_predictor(int8), examples)["accuracy"], 2),
    }


if __name__ == "__main__":
    main()
