"""Recordings of words that several people spoke several times: recordings/<word>_<speaker>_<take>.wav.

A word may hold underscores (turn_left_bob_3), a speaker's name none.
The form of the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset), whose test set is
the first takes of each speaker and word.
"""

from __future__ import annotations

import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from components.core.config import Config
from components.core.errors import ModelpressError
from components.inference.wav import WaveReader, open_sound


class Split(Config):
    """datasets.<name>.split: takes 0, 1, ... of each word and speaker are test, the next ones dev, the rest train."""

    test_takes: int = Field(5, gt=0)
    dev_takes: int = Field(5, gt=0)
    seed: int = Field(1, description="draws the order of each split: by name, one word would come first")


@dataclass(frozen=True)
class Recording:
    """Who said what, and its samples int16 (T,)."""

    word: str
    speaker: str
    take: int
    samples: np.ndarray


def read(raw: Path, split: Split) -> tuple[int, dict[str, list[Recording]]]:
    """Return the samples a second, and the recordings of "train", "dev" and "test".

    Raises:
        ModelpressError: no recordings, a name of another form, recordings of unlike rates, an empty split.
    """
    paths = sorted((raw / "recordings").glob("*.wav"))
    if not paths:
        raise ModelpressError(f"{raw / 'recordings'}: no *.wav; fetch the dataset again")
    rate = _rate(paths[0])
    parts: dict[str, list[Recording]] = {"train": [], "dev": [], "test": []}
    for number in np.random.default_rng(split.seed).permutation(len(paths)):
        recording = _read(paths[number], rate)
        parts[_part(recording.take, split)].append(recording)
    for name, recordings in parts.items():
        if not recordings:
            raise ModelpressError(f"datasets.{raw.name}.split: leaves nothing for {name}; ask for fewer takes")
    return rate, parts


def _part(take: int, split: Split) -> str:
    if take < split.test_takes:
        return "test"
    return "dev" if take < split.test_takes + split.dev_takes else "train"


def _read(path: Path, rate: int) -> Recording:
    # as audio_generation's predictor reads it: what is trained on can be asked for
    match = re.fullmatch(r"(\S+)_([^\s_]+)_(\d{1,9})", path.stem, re.ASCII)
    if match is None:
        raise ModelpressError(f"{path}: not named <word>_<speaker>_<take>.wav, without blanks; rename it")
    if _rate(path) != rate:
        raise ModelpressError(f"{path}: {_rate(path)} samples a second, others have {rate}; resample it")
    return Recording(match[1], match[2], int(match[3]), open_sound(str(path), rate))


def _rate(path: Path) -> int:
    try:
        with WaveReader(str(path)) as file:
            return int(file.getframerate())
    except (wave.Error, EOFError) as error:
        raise ModelpressError(f"{path}: not a WAV file ({error}); fetch the dataset again") from None
