"""Training steps with freed memory kept (components/training/kept_memory.py) and given back to the kernel.

    python -m benchmarks.conv_training          (a few minutes; writes benchmarks/results/conv_training.json)

Each recipe's model takes its own steps on random pictures, in two processes that take turns: what disturbs the machine
hits both, and the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from components.core.files import write_json, write_text

PICTURES = {"fashion-mnist": (28, 1), "eurosat-rgb": (64, 3)}  # points along an edge, channels
RECIPES = ("fashion-mobilenet", "fashion-densenet", "fashion-cnn", "eurosat-mobilenet")
SETTINGS = ("given_back", "kept")


def main() -> None:
    """Start a worker a setting, let them take turns, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/conv_training.json"))
    parser.add_argument("--worker", nargs=2, metavar=("SETTING", "RECIPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker, options.steps)
        return
    from components.evaluation.hardware import describe

    recipes = {name: take_turns(name, options.rounds, options.steps) for name in RECIPES}
    result = {"recipes": recipes, "rounds": options.rounds, "steps": options.steps, "hardware": describe()}
    write_json(options.out, result)
    print(json.dumps(recipes, indent=2))


def take_turns(recipe: str, rounds: int, steps: int) -> dict[str, float]:
    """Return each setting's milliseconds a step, and how much faster the kept memory is within a round; medians."""
    command = [sys.executable, "-m", "benchmarks.conv_training", "--steps", str(steps), "--worker"]
    workers = {
        name: subprocess.Popen([*command, name, recipe], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in SETTINGS
    }
    for worker in workers.values():
        _turn(worker)  # warm
    turns = [{name: _turn(worker) for name, worker in workers.items()} for _ in range(rounds)]
    for worker in workers.values():
        worker.communicate("")
    ratios = [turn["given_back"] / turn["kept"] for turn in turns]
    medians = {f"{name}_ms": round(statistics.median(turn[name] for turn in turns), 2) for name in SETTINGS}
    return {**medians, "ratio": round(statistics.median(ratios), 3)}


def _turn(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker died; its error stands above")
    return float(line)


def work(setting: str, recipe: str, steps: int) -> None:
    """For each line on stdin take some training steps and print the milliseconds of one."""
    import torch

    from components.core.threads import threads
    from components.training.config import TrainConfig
    from components.training.kept_memory import keep_freed_memory
    from components.training.module import make_optimizer

    torch.set_num_threads(threads())
    if setting == "kept" and not keep_freed_memory():
        raise SystemExit("this C library is not glibc: nothing to compare")
    task, model, batch, train = _setting(recipe)
    config = TrainConfig(**train)
    optimizer = make_optimizer(list(model.parameters()), config)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16-mixed"):
                loss = task.step(model, batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print((time.perf_counter() - started) / steps * 1e3, flush=True)


def _setting(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return a recipe's task, its untrained model, a batch of random pictures and its `train` block."""
    import torch

    from components.core.config import parse_config
    from components.core.params import load_params
    from components.core.task import load_task

    recipe = load_params().recipes[name]
    task: Any = load_task(recipe.task)
    edge, channels = PICTURES[recipe.dataset]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_text(root / "assets" / "labels.txt", "".join(f"{number}\n" for number in range(10)))
        write_json(root / "assets" / "picture.json", {"height": edge, "width": edge, "channels": channels})
        write_json(root / "images.json", {"mean": [128.0] * channels, "deviation": [64.0] * channels})
        model = task.build_model(parse_config(task.Model, recipe.model, f"recipes.{name}.model"), root).train()
    size = recipe.train["batch_size"]
    pictures = torch.randint(0, 256, (size, edge, edge, channels)).to(torch.uint8)
    return task, model, (pictures, torch.randint(0, 10, (size,)), pictures.clone()), recipe.train


if __name__ == "__main__":
    main()
