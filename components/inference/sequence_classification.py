"""Sounds in, labels out: read WAV, one run of the graph over recordings of unlike lengths, the most probable labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.inference.batches import rows_of_like_length
from components.inference.labels import most_probable, read_labels
from components.inference.predictor import Predictor
from components.inference.session import Session
from components.inference.wav import open_sound

BATCH = 32
SHORTEST = 800  # samples; shorter recordings are padded to these, so that every model sees at least a frame


class SequenceClassificationPredictor(Predictor):
    """The graph "classify": `samples` int16 (B, T), `length` int64 (B,) -> `label` int64 (B,), `probability` (B, C).

    What stands behind a recording's length is padding, and changes nothing.
    """

    unit = "recordings"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        self._labels = read_labels(assets)
        self._rate = json.loads((assets / "sound.json").read_text(encoding="utf-8"))["rate"]

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Return {"label", "probabilities": {label: probability}, the five most probable ones} of each recording.

        inputs: paths of WAV files, or their bytes as `data:audio/wav;base64,...`. They run in batches of like length,
        which changes no order.

        Raises:
            ModelpressError: a file that is not there, or that is no WAV file.
        """
        sounds = [open_sound(text, self._rate) for text in inputs]
        answers: list[dict[str, Any]] = [{} for _ in sounds]
        for rows in rows_of_like_length([len(sound) for sound in sounds], BATCH):
            for i, answer in zip(rows, self._classify([sounds[i] for i in rows]), strict=True):
                answers[i] = answer
        return answers

    def _classify(self, sounds: list[np.ndarray]) -> list[dict[str, Any]]:
        samples_BT, length_B = pad_sounds(sounds)
        given = {"samples": samples_BT, "length": length_B}
        outputs = self.sessions["classify"].run(["label", "probability"], given)
        return [most_probable(self._labels, *answer) for answer in zip(*outputs, strict=True)]

    def count_units(self, answers: list[dict[str, Any]]) -> int:
        """Return the number of recordings."""
        return len(answers)


def pad_sounds(sounds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return sounds int16 (t,) as one array (B, T) with zeros behind each, and their lengths int64 (B,)."""
    length_B = np.array([max(len(sound), SHORTEST) for sound in sounds], np.int64)
    samples_BT = np.zeros((len(sounds), int(length_B.max())), np.int16)
    for row_T, sound in zip(samples_BT, sounds, strict=True):
        row_T[: len(sound)] = sound
    return samples_BT, length_B


PREDICTOR = SequenceClassificationPredictor
