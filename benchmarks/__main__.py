"""`make bench`: every benchmark after the other, nothing beside them, then docs/results.md.

The decode benchmark needs the recipe tanaka-transformer to be up to date (`modelpress run tanaka-transformer`), the
serving benchmark the default one (`modelpress run`) and Debian's package wrk.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.results import keep_recipe, write_results

QUANTIZED = ("fashion-mobilenet", "eurosat-mobilenet")
SERVED = ("tatoeba-student-int8", "fashion-mobilenet-int8", "words-skipgram-int8")  # most time in the model first


def main() -> None:
    """Run what can be run here; a benchmark that fails is named and the rest goes on."""
    failed = []
    commands = [
        ["benchmarks.first_run"],
        ["benchmarks.orchestration"],
        ["benchmarks.serving_swaps"],
        ["benchmarks.binary_addition"],
        ["benchmarks.conv_training"],
        ["benchmarks.word2vec"],
        ["benchmarks.kill_points"],
    ]
    for name in QUANTIZED:
        if Path(f"models/{name}/model.safetensors").is_file():
            commands.append(["benchmarks.quantization", name])
    if Path("models/fashion-cnn/model.safetensors").is_file():
        commands.append(["benchmarks.channel_blocks", "fashion-cnn"])
    if any(Path("bundles").glob("digits-*")):
        commands.append(["benchmarks.spoken_digits"])
    if Path("models/talk-wavenet/model.safetensors").is_file():
        commands.append(["benchmarks.sound_generation"])
    served = [name for name in SERVED if any(Path("bundles").glob(f"*/{name}/manifest.json"))]
    commands = [["benchmarks.serving", name] for name in served] + commands
    if not served:
        print("skipping benchmarks.serving: `modelpress run` makes a bundle that it serves", flush=True)
    if Path("models/tanaka-transformer/model.safetensors").is_file():
        commands.insert(0, ["benchmarks.decode", "tanaka-transformer"])
    else:
        print("skipping benchmarks.decode: `modelpress run tanaka-transformer` trains the model it times", flush=True)
    for command in commands:
        print(f"== {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
            failed.append(command[0])
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout
    for path in sorted(Path("metrics").glob("*/selection.json")):
        keep_recipe(path.parent.name, commit.strip())
    write_results()
    print("wrote docs/results.md" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
