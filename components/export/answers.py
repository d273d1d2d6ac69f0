"""A model's own answers to many inputs, by its exported graph: several times as fast as torch, one session a core."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.core.files import read_json, write_text
from components.core.params import Quantize
from components.core.task import Task, TaskDataset, TrainedModel
from components.export.int8 import quantize_dynamic
from components.export.precision import build_graphs
from components.inference.predictor import Predictor, predictor_class
from components.inference.session import open_session

CHUNK = 512  # inputs between two progress lines


def model_answers(
    task: Task, model: TrainedModel, options: Any, examples: TaskDataset, assets: Path, cores: int, cache: Path
) -> list[Any]:
    """Return one answer an input. They are kept in `cache`, whose name must change with the model and the inputs."""
    inputs = examples.inputs()
    if cache.is_file() and len(kept := read_json(cache)) == len(inputs):
        return list(kept)
    quantized, _ = quantize_dynamic(build_graphs(task, model, options, "fp32"), Quantize())
    graphs = {name: graph.SerializeToString() for name, graph in quantized.items()}

    def new_predictor() -> Predictor:
        sessions = {name: open_session(graph) for name, graph in graphs.items()}
        return predictor_class(task.predictor)(sessions, assets, options.model_dump())

    # like lengths together, so that a chunk's batches hold little padding
    lengths = examples.lengths()
    order = list(range(len(inputs))) if lengths is None else lengths[:, -1].argsort(kind="stable").tolist()
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    answers: list[Any] = [None] * len(inputs)
    for rows, texts in _in_parallel(new_predictor, chunks, inputs, cores):
        for row, text in zip(rows, texts, strict=True):
            answers[row] = text
    write_text(cache, json.dumps(answers, ensure_ascii=False))
    return answers


def _in_parallel(
    new_predictor: Callable[[], Predictor], chunks: list[list[int]], inputs: Sequence[Any], cores: int
) -> list[tuple[list[int], list[Any]]]:
    idle = [new_predictor() for _ in range(cores)]  # a free list: each thread takes one and puts it back
    started, done = time.monotonic(), 0

    def answer(rows: list[int]) -> tuple[list[int], list[Any]]:
        predictor = idle.pop()
        try:
            return rows, predictor.predict([inputs[row] for row in rows])
        finally:
            idle.append(predictor)

    results = []
    with ThreadPoolExecutor(cores) as pool:
        for result in pool.map(answer, chunks):
            results.append(result)
            done += len(result[0])
            if len(results) % 10 == 0:
                left = (time.monotonic() - started) / done * (len(inputs) - done)
                print(f"teacher's answers {done}/{len(inputs)}, about {left:.0f} s left", flush=True)
    return results
