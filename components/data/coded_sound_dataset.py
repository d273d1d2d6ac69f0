"""Recordings as mu-law codes with who said what, and the dataset that batches them by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.config import parse_config
from components.core.errors import ModelpressError
from components.core.files import read_json, write_json
from components.data.readers import numbered_takes
from components.data.readers.numbered_takes import Recording
from components.inference.mu_law import decode, encode
from components.inference.wav import wav_url

HUNDREDTHS = 100  # of a second: the unit of `lengths`, and so of a recipe's tokens_per_batch
ASKED_S = 0.05  # how long an answer the dataset's own inputs ask for: a proof and a timing draw every sample
NOTHING = -1  # behind a recording's end, in a batch's targets


def prepare_coded(raw: Path, out: Path, split: Mapping[str, Any]) -> dict[str, Any]:
    """Write each split's codes, words, speakers and takes, and the assets; return what is worth showing.

    Raises:
        ModelpressError: a malformed name or file, an empty split, a word or speaker never heard in training.
    """
    config = parse_config(numbered_takes.Split, dict(split), f"datasets.{raw.name}.split")
    rate, parts = numbered_takes.read(raw, config)
    words, speakers = (sorted({getattr(r, kind) for r in parts["train"]}) for kind in ("word", "speaker"))
    for name, recordings in parts.items():
        _write_split(out / name, recordings, words, speakers)
    write_json(out / "assets" / "sound.json", {"rate": rate, "words": words, "speakers": speakers})
    return {"recordings": {name: len(found) for name, found in parts.items()}, "words": words, "speakers": speakers}


def _write_split(folder: Path, recordings: Sequence[Recording], words: list[str], speakers: list[str]) -> None:
    unknown = sorted({r.word for r in recordings} - set(words)) + sorted(
        {r.speaker for r in recordings} - set(speakers)
    )
    if unknown:
        raise ModelpressError(f"{folder.name}: {', '.join(unknown)}: never in train; ask for fewer dev and test takes")
    folder.mkdir(parents=True)
    np.save(folder / "codes.npy", np.concatenate([encode(r.samples) for r in recordings]))
    np.save(folder / "ends.npy", np.cumsum([len(r.samples) for r in recordings], dtype=np.int64))
    who = [[words.index(r.word), speakers.index(r.speaker), r.take] for r in recordings]
    np.save(folder / "who.npy", np.array(who, np.int64))


@dataclass(frozen=True)
class CodedSounds:
    """One split: codes uint8 (T,) each; who int64 (N, 3): word, speaker, take; their names; samples a second."""

    codes: Sequence[np.ndarray]
    who: np.ndarray
    words: list[str]
    speakers: list[str]
    rate: int

    @classmethod
    def load(cls, root: Path, split: str) -> CodedSounds:
        """Read a split written by prepare_coded."""
        folder, about = root / split, read_json(root / "assets" / "sound.json")
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("codes", "ends", "who")}
        codes = np.split(arrays["codes"], arrays["ends"][:-1])
        return cls(codes, arrays["who"], about["words"], about["speakers"], about["rate"])

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.codes[index], self.who[index]

    def collate(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes int64 (B, T), NOTHING behind each recording, words int64 (B,) and speakers int64 (B,)."""
        code_BT = torch.full((len(examples), max(len(codes) for codes, _ in examples)), NOTHING)
        for row_T, (codes, _) in zip(code_BT, examples, strict=True):
            row_T[: len(codes)] = torch.from_numpy(codes.astype(np.int64))
        who_B3 = torch.from_numpy(np.stack([who for _, who in examples]))
        return code_BT, who_B3[:, 0], who_B3[:, 1]

    def lengths(self) -> np.ndarray:
        """Return (N, 2) lengths in begun hundredths of a second."""
        found_N = np.array([-(-len(codes) * HUNDREDTHS // self.rate) for codes in self.codes], np.int64)
        return np.stack([found_N, found_N], 1)

    def inputs(self) -> list[str]:
        """Return a wish for the first moments of each recording, by its name: the model draws its own."""
        return [f"{name} {ASKED_S:g} s" for name in self.names()]

    def names(self) -> list[str]:
        """Return <word>_<speaker>_<take> of each recording."""
        return [f"{self.words[word]}_{self.speakers[speaker]}_{take}" for word, speaker, take in self.who]

    def references(self) -> list[str]:
        """Return what the recording was, as long as its input asks: no drawn sound is ever the same."""
        return [wav_url(decode(codes[: round(ASKED_S * self.rate)]), self.rate) for codes in self.codes]

    def with_targets(self, answers: list[str]) -> CodedSounds:
        """Return the same recordings: a model is not taught by what it drew."""
        return self

    def __add__(self, other: CodedSounds) -> CodedSounds:
        """Return the recordings of both."""
        return replace(self, codes=[*self.codes, *other.codes], who=np.concatenate([self.who, other.who]))
