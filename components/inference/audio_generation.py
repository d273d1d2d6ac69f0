"""A word and a speaker in, sound out: the graph draws sample after sample by the noise that the predictor gives it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError, did_you_mean
from components.inference.batches import rows_of_like_length
from components.inference.mu_law import decode
from components.inference.predictor import Predictor
from components.inference.session import Session
from components.inference.wav import wav_url

BATCH = 32
MOST_SECONDS = 5.0
FREE = -1  # in `given`: this sample is to be drawn


@dataclass(frozen=True)
class Wish:
    """Who is to say what, how long, and which of all ways of saying it."""

    word: int
    speaker: int
    take: int
    samples: int


class AudioGenerationPredictor(Predictor):
    """The graph "generate": `given` int64 (B, T), `noise` float32 (B, T), `word`, `speaker` int64 (B,) -> samples.

    given: the codes of samples that are known, FREE where one is to be drawn by the noise, uniform in [0, 1). It gives
    `code` int64 (B, T) and `bits` float32 (B, T): what each sample's code cost, -log2 of its probability.
    """

    unit = "samples"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        about = json.loads((assets / "sound.json").read_text(encoding="utf-8"))
        self.rate, self.words, self.speakers = about["rate"], about["words"], about["speakers"]

    def predict(self, inputs: list[str]) -> list[str]:
        """Return each word as a WAV file in a data URL.

        inputs: "<word>_<speaker>_<take>", e.g. "7_george_3", and behind it the seconds if not the option's: "7_george_3
        0.25 s". Another take is another way of saying it, the same take always the same.

        Raises:
            ModelpressError: another form, or a word or speaker that was not in the training data.
        """
        wishes = [self._wish(text) for text in inputs]
        answers = [""] * len(wishes)
        for rows in rows_of_like_length([wish.samples for wish in wishes], BATCH):
            for i, codes_T in zip(rows, self._say([wishes[i] for i in rows]), strict=True):
                answers[i] = wav_url(decode(codes_T[: wishes[i].samples]), self.rate)
        return answers

    def _say(self, wishes: Sequence[Wish]) -> np.ndarray:
        """Return codes (B, T); a row's noise depends on its wish alone, not on the rows beside it."""
        longest = max(wish.samples for wish in wishes)
        noise_BT = np.zeros((len(wishes), longest), np.float32)
        for row_T, wish in zip(noise_BT, wishes, strict=True):
            seed = [wish.word, wish.speaker, wish.take]
            row_T[: wish.samples] = np.random.default_rng(seed).random(wish.samples, np.float32)
        words_B, speakers_B = ([getattr(wish, name) for wish in wishes] for name in ("word", "speaker"))
        codes_BT, _ = self.run(np.full(noise_BT.shape, FREE), noise_BT, words_B, speakers_B)
        return codes_BT

    def run(
        self, given_BT: np.ndarray, noise_BT: np.ndarray, words_B: Sequence[int], speakers_B: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return codes int64 (B, T) and bits float32 (B, T)."""
        inputs: dict[str, np.ndarray] = {
            "given": given_BT.astype(np.int64),
            "noise": noise_BT.astype(np.float32),
            "word": np.asarray(words_B, np.int64),
            "speaker": np.asarray(speakers_B, np.int64),
        }
        code_BT, bits_BT = self.sessions["generate"].run(["code", "bits"], inputs)
        return code_BT, bits_BT

    def _wish(self, text: str) -> Wish:
        match = re.fullmatch(r"\s*(\S+)_([^\s_]+)_(\d{1,9})(?:\s+(\d{1,3}(?:\.\d{1,6})?)\s*s)?\s*", text, re.ASCII)
        if not match:
            raise ModelpressError(f"{text[:40]!r}: not of the form <word>_<speaker>_<take>, e.g. {self._example!r}")
        seconds = float(match[4] or self.options["seconds"])
        samples = round(seconds * self.rate)
        if not 1 <= samples <= MOST_SECONDS * self.rate:
            raise ModelpressError(f"{text!r}: {seconds:g} s; ask for more than 0 and at most {MOST_SECONDS:g}")
        word, speaker = _number(match[1], self.words, "word"), _number(match[2], self.speakers, "speaker")
        return Wish(word, speaker, int(match[3]), samples)

    @property
    def _example(self) -> str:
        return f"{self.words[0]}_{self.speakers[0]}_1"

    def count_units(self, answers: list[str]) -> int:
        """Return the number of samples, from the length of the data URLs: 44 bytes of head, then two a sample."""
        return sum((len(answer.partition(",")[2]) * 3 // 4 - answer.count("=") - 44) // 2 for answer in answers)


def _number(name: str, known: Sequence[str], kind: str) -> int:
    if name not in known:
        raise ModelpressError(f"{name!r}: no such {kind}{did_you_mean(name, known)}")
    return known.index(name)


PREDICTOR = AudioGenerationPredictor
