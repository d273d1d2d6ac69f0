"""Word vectors: quality and words/s of our recipes beside gensim's word2vec, on the same text, with the same numbers.

    python -m benchmarks.word2vec        (writes benchmarks/results/word2vec.json; about 10 minutes on a quiet machine)

gensim is given each recipe's text, width, window, negatives, subsampling and epochs, and the rest as it comes. Each
system trains in a process of its own with two threads, one after the other, round by round. Counted are the words of
the text times the epochs, in the seconds of the training alone: neither side's vocabulary, text or imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from components.core.config import parse_config
from components.core.files import read_json, write_json
from components.core.params import load_params
from components.core.task import load_task

TASK = "word_embedding"
RECIPES = ("words-skipgram", "words-cbow", "words-counts")
THREADS = 2
MOST_WORDS = 10_000  # gensim ignores what stands behind them in a text


def main() -> None:
    """Prepare the text, let the systems take turns, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the trained recipes and of gensim; the recipe's where not given")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/word2vec.json"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        system, recipe, folder = options.worker
        print(json.dumps(work(system, recipe, Path(folder), options.epochs)), flush=True)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rounds = [take_turns(folder, options.epochs) for _ in range(options.rounds)]
    result = summarize(rounds)
    write_json(options.out, result)
    print(json.dumps(result["ratios"], indent=2))


def prepare(folder: Path) -> None:
    """Fetch and prepare each recipe's data."""
    from components.data.sources import fetch

    params, task = load_params(), load_task(TASK)
    for recipe in RECIPES:
        block = params.recipes[recipe]
        raw = folder / "raw" / block.dataset
        if not raw.is_dir():
            fetch(block.dataset, params.datasets[block.dataset].source, raw)
        data = parse_config(task.Data, block.data, recipe)
        task.prepare(raw, folder / recipe, params.datasets[block.dataset].split, data)


def take_turns(folder: Path, epochs: int | None) -> dict[str, dict[str, Any]]:
    """Return what each system's worker says, by `system recipe`."""
    row = {}
    for recipe in RECIPES:
        for system in ("modelpress", "gensim"):
            if (system, recipe) == ("gensim", "words-counts"):
                continue  # it has no such model
            command = [sys.executable, "-m", "benchmarks.word2vec", "--worker", system, recipe, str(folder)]
            command += ["--epochs", str(epochs)] if epochs else []
            threads = {"MODELPRESS_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
            worker = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | threads)
            row[f"{system} {recipe}"] = json.loads(worker.stdout.splitlines()[-1])
            print(f"{system} {recipe}: {row[f'{system} {recipe}']}", flush=True)
    return row


def work(system: str, recipe: str, root: Path, epochs: int | None) -> dict[str, Any]:
    """Train one system on a recipe's text; return its seconds, words/s and scores on test."""
    from components.export.torch_session import TorchSession
    from components.inference.predictor import predictor_class
    from components.training.config import TrainConfig

    task, block = load_task(TASK), load_params().recipes[recipe]
    config = parse_config(task.Model, block.model, recipe)
    train = parse_config(TrainConfig, {**block.train, **({"epochs": epochs} if epochs else {})}, recipe)
    root = root / recipe
    learn = _modelpress if system == "modelpress" else _gensim
    seconds, model = learn(task, config, train, root)
    (spec,) = task.graphs(model.eval(), task.Options())
    predictor = predictor_class(task.predictor)({spec.name: TorchSession(spec)}, root / "assets", {})  # type: ignore[dict-item]
    words = read_json(root / "words.json")["text"]["train"]
    return {
        "seconds": round(seconds, 1),
        "epochs": train.epochs,
        "words_per_second": round(train.epochs * words / seconds),
        "test": {name: round(value, 2) for name, value in task.score(predictor, task.dataset(root, "test")).items()},
    }


def _modelpress(task: Any, config: Any, train: Any, root: Path) -> tuple[float, Any]:
    from components.training.fit import fit
    from components.training.weights import seed_everything

    seed_everything(train.seed)
    model = task.build_model(config, root)
    examples, dev = task.dataset(root, "train"), task.dataset(root, "dev")
    with tempfile.TemporaryDirectory() as checkpoints:
        started = time.perf_counter()
        fit(model, task.step, examples, dev, train, Path(checkpoints))
        return time.perf_counter() - started, model


def _gensim(task: Any, config: Any, train: Any, root: Path) -> tuple[float, Any]:
    import torch
    from gensim.models import Word2Vec

    words = (root / "assets" / "words.txt").read_text(encoding="utf-8").splitlines()
    rows = task.dataset(root, "train").text
    texts = [[words[i] for i in row if i >= 0][:MOST_WORDS] for row in rows]
    peer = Word2Vec(
        vector_size=config.width, window=config.window, negative=config.negatives, sample=config.sample,
        sg=int(config.family == "skipgram"), min_count=1, workers=THREADS, epochs=train.epochs, seed=train.seed,
    )  # fmt: skip
    peer.build_vocab(texts)
    started = time.perf_counter()
    peer.train(texts, total_examples=len(texts), epochs=train.epochs)
    seconds = time.perf_counter() - started
    model = task.build_model(config, root)
    found = np.stack([peer.wv[w] if w in peer.wv else np.ones(config.width, np.float32) for w in words])
    with torch.no_grad():
        model.table.copy_(torch.from_numpy(found))
    return seconds, model


def summarize(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return medians over rounds of each system, and ours against gensim's within a round."""
    from components.evaluation.hardware import describe

    systems = {
        name: {
            "epochs": rounds[0][name]["epochs"],
            "seconds": statistics.median(row[name]["seconds"] for row in rounds),
            "words_per_second": round(statistics.median(row[name]["words_per_second"] for row in rounds)),
            "test": {
                key: round(statistics.median(row[name]["test"][key] for row in rounds), 2)
                for key in rounds[0][name]["test"]
            },
        }
        for name in rounds[0]
    }
    ratios = {
        recipe: round(
            statistics.median(
                row[f"modelpress {recipe}"]["words_per_second"] / row[f"gensim {recipe}"]["words_per_second"]
                for row in rounds
            ),
            2,
        )
        for recipe in RECIPES
        if f"gensim {recipe}" in rounds[0]
    }
    return {
        "hardware": describe(),
        "rounds": len(rounds),
        "threads": THREADS,
        "systems": systems,
        "ratios": ratios,
    }


if __name__ == "__main__":
    main()
