"""Decode speed, one thread, greedy, same weights: our int8 graph against torch eager and against CTranslate2 int8.

    python -m benchmarks.decode [RECIPE]        (after `modelpress run RECIPE`; benchmarks/results/decode-CPU.json)

Each system lives in a process of its own (torch's threads disturb the others) and takes its turn in every round: what
disturbs the machine hits all alike; the ratios are medians over rounds. They depend on the processor, so each has a
file of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from components.core.files import read_json, write_json

SYSTEMS = ("torch-eager", "onnx-fp32", "onnx-int8", "ctranslate2-int8")
BATCHES = (1, 32)
Decode = Callable[[list[list[int]]], list[list[int]]]


def main() -> None:
    """Export, start a worker a system, let them take turns, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="tanaka-transformer")
    parser.add_argument("--sentences", type=int, default=200, help="of the test split, per round and batch size")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="benchmarks/results/decode-CPU.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.recipe, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(options.recipe, options.sentences, folder)
        rounds = take_turns(options.recipe, folder, options.rounds)
    result = summarize(options.recipe, rounds)
    cpu = "-".join(re.findall("[a-z0-9]+", re.sub(r"\((r|tm)\)", "", result["hardware"]["cpu"].lower())))
    write_json(options.out or Path(f"benchmarks/results/decode-{cpu}.json"), result)
    print(json.dumps(result["ratios"], indent=2))


def prepare(recipe: str, sentences: int, folder: Path) -> None:
    """Write graphs, the CTranslate2 model and the sentences' ids; in a process that ends, torch's threads with it."""
    import onnx

    from benchmarks.ctranslate2_peer import write_ctranslate2
    from components.export.int8 import quantize_int8
    from components.export.loop import build_graph
    from components.inference.tokenizers import EOS

    task, model, root = _model(recipe)
    graph = build_graph(task.graphs(model.module, task.Options())[0])
    onnx.save(graph, folder / "fp32.onnx")
    onnx.save(quantize_int8(graph), folder / "int8.onnx")
    sizes = task.dataset(root, "test").vocabulary_sizes(root)
    tokens = [["<pad>", "<unk>", "<s>", "</s>", *(f"t{i}" for i in range(4, size))] for size in sizes]
    write_ctranslate2(model.module, *tokens, folder / "ctranslate2")
    sources = [[*map(int, ids), EOS] for ids in task.dataset(root, "test").sources[:sentences]]
    write_json(folder / "sources.json", sources)


def _model(recipe: str) -> tuple[Any, Any, Path]:
    from components.core.params import load_params
    from components.core.task import load_task
    from components.training.weights import load_model

    root, task = Path("data/prepared") / recipe, load_task(load_params().recipes[recipe].task)
    return task, load_model(task, Path("models") / recipe, root), root


def take_turns(recipe: str, folder: Path, rounds: int) -> list[dict[str, dict[str, float]]]:
    """Return tokens/s of every system and batch size, a row a round."""
    command = [sys.executable, "-m", "benchmarks.decode", recipe, "--folder", str(folder), "--worker"]
    workers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in SYSTEMS
    }
    for worker in workers.values():
        _read(worker)  # loaded and warm
    results = []
    for number in range(rounds):
        row: dict[str, dict[str, float]] = {}
        for name, worker in workers.items():
            row[name] = {}
            for batch in BATCHES:
                assert worker.stdin is not None
                worker.stdin.write(f"{batch}\n")
                worker.stdin.flush()
                row[name][f"batch_{batch}"] = _read(worker)
        print(f"round {number + 1}/{rounds}: {row}", flush=True)
        results.append(row)
    for worker in workers.values():
        worker.communicate("")
    return results


def _read(worker: subprocess.Popen[str]) -> float:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker died; its error stands above")
    return float(line)


def work(system: str, recipe: str, folder: Path) -> None:
    """Answer each batch size on stdin with tokens/s on stdout."""
    sources = read_json(folder / "sources.json")
    decode = {
        "torch-eager": lambda: _torch(recipe),
        "onnx-fp32": lambda: _onnx(folder / "fp32.onnx"),
        "onnx-int8": lambda: _onnx(folder / "int8.onnx"),
        "ctranslate2-int8": lambda: _ctranslate2(folder / "ctranslate2"),
    }[system]()
    order = sorted(sources, key=len, reverse=True)
    decode(order[:32])
    decode(order[:1])
    print(0, flush=True)
    for line in sys.stdin:
        size = int(line)
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        started = time.perf_counter()
        tokens = sum(len(row) + 1 for batch in batches for row in decode(batch))
        print(tokens / (time.perf_counter() - started), flush=True)


def _torch(recipe: str) -> Decode:
    """The usual loop: cached keys and values, one batch until its last sentence ends."""
    import torch

    from components.inference.tokenizers import BOS, EOS

    torch.set_num_threads(1)
    _, model, _ = _model(recipe)
    module = model.module

    @torch.inference_mode()
    def decode(batch: list[list[int]]) -> list[list[int]]:
        source = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64)
        for row, ids in zip(source, batch, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        constants, state = module.begin(source, 1)
        token, tokens = torch.full((len(batch), 1), BOS), []
        finished = torch.zeros(len(batch), 1, dtype=torch.bool)
        for step in range(40):
            logits, state = module.advance(token, torch.tensor(step), constants, state, 1)
            token = torch.where(finished, 0, logits.argmax(-1, keepdim=True))
            tokens.append(token)
            finished |= token == EOS
            if finished.all():
                break
        return [_until_end(row) for row in torch.cat(tokens, 1).tolist()]

    return decode


def _onnx(path: Path) -> Decode:
    from components.inference.session import open_session

    return _decode_with(open_session(path, threads=1))


def _decode_with(session: Any) -> Decode:
    import numpy as np

    def decode(batch: list[list[int]]) -> list[list[int]]:
        source = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, ids in zip(source, batch, strict=True):
            row[: len(ids)] = ids
        (target,) = session.run(["target"], {"source": source})
        return [_until_end(row) for row in target.tolist()]

    return decode


def _until_end(ids: list[int]) -> list[int]:
    return [*takewhile(lambda i: i != 3, ids)]  # 3 is the end mark


def _ctranslate2(folder: Path) -> Decode:
    import ctranslate2

    translator = ctranslate2.Translator(str(folder), "cpu", compute_type="int8", intra_threads=1, inter_threads=1)
    names = ["<pad>", "<unk>", "<s>", "</s>"]

    def decode(batch: list[list[int]]) -> list[list[int]]:
        rows = [[names[i] if i < 4 else f"t{i}" for i in ids] for ids in batch]
        found = translator.translate_batch(rows, beam_size=1, max_decoding_length=40, max_batch_size=0)
        return [result.hypotheses[0] for result in found]

    return decode


def summarize(recipe: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return medians of tokens/s, and of our int8 graph's ratio to each other system within a round."""
    from components.evaluation.hardware import describe

    keys = [f"batch_{size}" for size in BATCHES]
    speed = {
        name: {key: round(statistics.median(row[name][key] for row in rounds)) for key in keys} for name in SYSTEMS
    }
    ratios = {
        f"onnx-int8 / {name}": {
            key: round(statistics.median(row["onnx-int8"][key] / row[name][key] for row in rounds), 3) for key in keys
        }
        for name in SYSTEMS
        if name != "onnx-int8"
    }
    return {
        "recipe": recipe,
        "tokens_per_second": speed,
        "ratios": ratios,
        "rounds": len(rounds),
        "hardware": describe(),
    }


if __name__ == "__main__":
    main()
