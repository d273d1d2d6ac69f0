from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import ModelpressError
from components.core.files import write_json
from components.evaluation import hardware
from components.evaluation.latency import BATCH, Samples, golden_inputs, summarize, time_interleaved


class Sleeper:
    """A predictor that takes a known time an example and notes the order it was called in."""

    unit = "words"

    def __init__(self, name: str, seconds: float, calls: list[str]) -> None:
        self.name, self.seconds, self.calls = name, seconds, calls

    def predict(self, inputs: list[str]) -> list[str]:
        self.calls.append(self.name)
        time.sleep(self.seconds * len(inputs))
        return inputs

    def count_units(self, answers: list[str]) -> int:
        return sum(len(answer.split()) for answer in answers)


def test_slower_predictor_is_measured_slower_and_units_are_counted_a_second() -> None:
    calls: list[str] = []
    predictors = {"fast": Sleeper("fast", 0.0005, calls), "slow": Sleeper("slow", 0.002, calls)}
    samples = time_interleaved(predictors, {"fast": ["a b c", "d"], "slow": ["a b c", "d"]}, repeats=3)
    figures = {name: summarize(found, "words") for name, found in samples.items()}
    fast, slow = (figures[name]["latency_ms"]["batch_1"] for name in ("fast", "slow"))
    assert fast["p50"] < slow["p50"]
    assert 0.5 <= fast["low"] <= fast["p50"] <= fast["high"]
    assert fast["p50"] <= fast["p95"]
    assert figures["slow"]["throughput"]["batch_1"] <= 4 / (2 * 0.002)
    assert figures["slow"]["latency_ms"]["batch_32"]["p50"] >= 2 * BATCH
    assert figures["slow"]["unit"] == "words/s"


def test_rounds_are_interleaved_and_start_with_another_variant_each() -> None:
    calls: list[str] = []
    predictors = {name: Sleeper(name, 0, calls) for name in "ab"}
    time_interleaved(predictors, {"a": ["x"], "b": ["x"]}, repeats=2)
    warm_up, rounds = calls[:4], calls[4:]
    assert warm_up == ["a", "a", "b", "b"]
    assert rounds == ["a", "a", "b", "b", "b", "b", "a", "a"]


def test_median_and_interval_come_from_all_rounds() -> None:
    samples = Samples(single=[[0.001, 0.003]] * 4 + [[0.009, 0.009]], batch=[0.02] * 5, single_units=10, batch_units=64)
    figures = summarize(samples, "tokens")
    assert figures["latency_ms"]["batch_1"]["p50"] == 3.0
    assert figures["latency_ms"]["batch_32"] == {"p50": 20.0, "p95": 20.0, "low": 20.0, "high": 20.0}
    assert figures["throughput"] == {"batch_1": round(10 / 0.004, 1), "batch_32": round(64 / 0.02, 1)}
    assert figures["latency_ms"]["batch_1"]["low"] < 3.0 < figures["latency_ms"]["batch_1"]["high"]


def test_golden_inputs_are_the_first_batch_in_order(tmp_path: Path) -> None:
    write_json(tmp_path / "golden.json", {"examples": [{"input": str(i), "output": ""} for i in range(50)]})
    assert golden_inputs(tmp_path) == [str(i) for i in range(BATCH)]


def test_bundle_without_golden_examples_is_a_clear_error(tmp_path: Path) -> None:
    write_json(tmp_path / "golden.json", {"examples": []})
    with pytest.raises(ModelpressError, match="no examples to time"):
        golden_inputs(tmp_path)


def test_hardware_is_described_the_same_twice_with_nothing_that_drifts() -> None:
    first = hardware.describe()
    assert first == hardware.describe()
    assert set(first) == {"cpu", "cores", "memory_gb", "os", "python", "onnxruntime", "accelerator"}
    assert np.isscalar(first["cores"])
    assert first["cores"] >= 1
