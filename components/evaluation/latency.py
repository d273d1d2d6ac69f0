"""Measures latency and throughput of bundles as a user meets them: text in, text out, on a fixed number of threads.

Run it in a process of its own without torch, whose threads would compete for the cores. Rounds over the variants are
interleaved, and each round starts with another variant, so that a machine that slows down slows all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from components.core.errors import ModelpressError
from components.core.files import read_json
from components.evaluation.hardware import describe

BATCH = 32
RESAMPLES = 1000


class TimedPredictor(Protocol):
    """The part of a predictor that is timed."""

    @property
    def unit(self) -> str: ...

    def predict(self, inputs: list[Any]) -> list[Any]: ...
    def count_units(self, answers: list[Any]) -> int: ...


@dataclass
class Samples:
    """The timings of one variant: one entry a round. Seconds; `units` are what the predictor counts (e.g. tokens)."""

    single: list[list[float]] = field(default_factory=list)  # a round's seconds, one an example
    batch: list[float] = field(default_factory=list)
    single_units: int = 0
    batch_units: int = 0


def measure(bundles: Mapping[str, Path], repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """Return the content of metrics/<recipe>/latency.json for bundles given by variant name.

    repeats: rounds; in each, every variant answers its bundle's first 32 golden examples one by one, then all at once.
    Milliseconds; `low` and `high` bound the median's 95 % interval; throughput is in the predictor's units a second.

    Raises:
        ModelpressError: a bundle can't be loaded or has no golden examples.
    """
    from components.inference import load_predictor

    predictors = {name: load_predictor(path, threads=threads) for name, path in bundles.items()}
    workloads = {name: golden_inputs(path) for name, path in bundles.items()}
    samples = time_interleaved(predictors, workloads, repeats)
    return {
        "hardware": describe(),
        "threads": threads,
        "variants": {name: summarize(found, predictors[name].unit) for name, found in samples.items()},
    }


def golden_inputs(bundle: Path) -> list[Any]:
    """Return the inputs of a bundle's first golden examples, as many as a batch holds."""
    inputs = [example["input"] for example in read_json(bundle / "golden.json")["examples"][:BATCH]]
    if not inputs:
        raise ModelpressError(f"{bundle / 'golden.json'}: no examples to time; package the variant again")
    return inputs


def time_interleaved(
    predictors: Mapping[str, TimedPredictor], workloads: Mapping[str, Sequence[Any]], repeats: int
) -> dict[str, Samples]:
    """Time every predictor in every round, after one round that only warms up and counts the answers' units."""
    names = list(predictors)
    samples = {name: _warm_up(predictors[name], list(workloads[name])) for name in names}
    for round_number in range(repeats):
        start = round_number % len(names)
        for name in names[start:] + names[:start]:
            predict, inputs = predictors[name].predict, list(workloads[name])
            samples[name].single.append([_seconds(predict, [example]) for example in inputs])
            samples[name].batch.append(_seconds(predict, _full_batch(inputs)))
    return samples


def summarize(samples: Samples, unit: str) -> dict[str, Any]:
    """Return a variant's entry in latency.json."""
    single, batch = np.array(samples.single), np.array(samples.batch)[:, None]
    return {
        "latency_ms": {"batch_1": _distribution(single), f"batch_{BATCH}": _distribution(batch)},
        "throughput": {
            "batch_1": round(samples.single_units / float(np.median(single.sum(axis=1))), 1),
            f"batch_{BATCH}": round(samples.batch_units / float(np.median(batch)), 1),
        },
        "unit": f"{unit}/s",
    }


def _warm_up(predictor: TimedPredictor, inputs: list[Any]) -> Samples:
    singles = [predictor.predict([example])[0] for example in inputs]
    batch = predictor.predict(_full_batch(inputs))
    return Samples(single_units=predictor.count_units(singles), batch_units=predictor.count_units(batch))


def _full_batch(inputs: list[Any]) -> list[Any]:
    return list(islice(cycle(inputs), BATCH))


def _seconds(predict: Callable[[list[Any]], Any], inputs: list[Any]) -> float:
    start = time.perf_counter()
    predict(inputs)
    return time.perf_counter() - start


def _distribution(seconds: np.ndarray) -> dict[str, float]:
    """Return median, 95th percentile and the median's 95 % interval, in ms, of (rounds, examples) float64 seconds.

    The interval is a bootstrap over rounds: the examples are fixed, the machine's mood in each round is the chance.
    """
    milliseconds = seconds * 1e3
    rounds = len(milliseconds)
    picks = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    medians = np.median(milliseconds[picks].reshape(RESAMPLES, -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    figures = {"p50": np.median(milliseconds), "p95": np.percentile(milliseconds, 95), "low": low, "high": high}
    return {name: round(float(value), 4) for name, value in figures.items()}
