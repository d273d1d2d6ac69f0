"""Recordings in, labels out: order kept, lengths told, short ones padded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.inference.sequence_classification import BATCH, SHORTEST, SequenceClassificationPredictor
from components.inference.wav import wav_url

LABELS = ["short", "middling", "long"]


class Lengths:
    """A graph whose label is the third of 3,000 samples in which a recording's length lies."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        samples_BT, length_B = inputs["samples"], inputs["length"]
        assert (samples_BT.dtype, length_B.dtype) == (np.int16, np.int64)
        for row, length in zip(samples_BT, length_B, strict=True):
            assert not row[length:].any()
        self.shapes.append(samples_BT.shape)
        label_B = np.minimum(length_B // 1000, 2)
        return [label_B, np.eye(3, dtype=np.float32)[label_B] * 0.8 + 0.1]


@pytest.fixture
def graph() -> Lengths:
    return Lengths()


@pytest.fixture
def predictor(tmp_path: Path, graph: Lengths) -> SequenceClassificationPredictor:
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (tmp_path / "sound.json").write_text(json.dumps({"rate": 8000}))
    return SequenceClassificationPredictor({"classify": graph}, tmp_path, {})


def sound(length: int) -> str:
    return wav_url(np.full(length, 500, np.int16), 8000)


def test_answers_keep_the_order_of_inputs_over_batches_of_like_length(
    predictor: SequenceClassificationPredictor, graph: Lengths
) -> None:
    lengths = [800 + i * 977 % 2200 for i in range(BATCH + 3)]
    answers = predictor.predict([sound(length) for length in lengths])
    assert [answer["label"] for answer in answers] == [LABELS[min(length // 1000, 2)] for length in lengths]
    assert [shape[0] for shape in graph.shapes] == [BATCH, 3]
    assert graph.shapes[1][1] == sorted(lengths)[2]
    assert predictor.count_units(answers) == BATCH + 3
    assert json.loads(json.dumps(answers)) == answers


def test_a_click_is_padded_to_the_shortest_that_the_model_takes(
    predictor: SequenceClassificationPredictor, graph: Lengths
) -> None:
    (answer,) = predictor.predict([sound(1)])
    assert answer == {"label": "short", "probabilities": {"short": 0.9, "middling": 0.1, "long": 0.1}}
    assert graph.shapes == [(1, SHORTEST)]


def test_no_inputs_give_no_answers(predictor: SequenceClassificationPredictor, graph: Lengths) -> None:
    assert predictor.predict([]) == []
    assert graph.shapes == []
