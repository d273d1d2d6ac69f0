"""Labelled recordings as samples on disk, and the dataset that batches them by length."""

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
from components.core.files import read_json, write_json, write_text
from components.data.readers import numbered_takes
from components.data.readers.numbered_takes import Recording
from components.inference.labels import read_labels
from components.inference.sequence_classification import pad_sounds
from components.inference.wav import wav_url

PARTS_OF_A_SECOND = 10  # the unit of `lengths`, and so of a recipe's tokens_per_batch


def prepare_recordings(raw: Path, out: Path, split: Mapping[str, Any]) -> dict[str, Any]:
    """Write each split's samples and words, and the assets; return what is worth showing.

    Raises:
        ModelpressError: a malformed name or file, an empty split, a word that was never heard in training.
    """
    config = parse_config(numbered_takes.Split, dict(split), f"datasets.{raw.name}.split")
    rate, parts = numbered_takes.read(raw, config)
    labels = sorted({recording.word for recording in parts["train"]})
    for name, recordings in parts.items():
        _write_split(out / name, recordings, labels)
    write_text(out / "assets" / "labels.txt", "".join(f"{label}\n" for label in labels))
    write_json(out / "assets" / "sound.json", {"rate": rate})
    seconds = {name: round(sum(len(r.samples) for r in found) / rate, 1) for name, found in parts.items()}
    return {"recordings": {name: len(found) for name, found in parts.items()}, "seconds": seconds, "rate": rate}


def _write_split(folder: Path, recordings: Sequence[Recording], labels: Sequence[str]) -> None:
    unknown = sorted({recording.word for recording in recordings} - set(labels))
    if unknown:
        raise ModelpressError(f"{folder.name}: {', '.join(unknown)}: never in train; ask for fewer dev and test takes")
    folder.mkdir(parents=True)
    np.save(folder / "samples.npy", np.concatenate([recording.samples for recording in recordings]))
    np.save(folder / "ends.npy", np.cumsum([len(recording.samples) for recording in recordings], dtype=np.int64))
    np.save(folder / "classes.npy", np.array([labels.index(recording.word) for recording in recordings], np.int64))


@dataclass(frozen=True)
class SoundDataset:
    """One split: sounds int16 (T,) each, classes int64 (N,), the classes' names, samples a second."""

    sounds: Sequence[np.ndarray]
    classes: np.ndarray
    labels: list[str]
    rate: int

    @classmethod
    def load(cls, root: Path, split: str) -> SoundDataset:
        """Read a split written by prepare_recordings."""
        classes_N = np.load(root / split / "classes.npy", allow_pickle=False)
        return cls(read_sounds(root, split), classes_N, read_labels(root / "assets"), read_rate(root))

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        return self.sounds[index], self.classes[index]

    def collate(self, examples: list[tuple[np.ndarray, np.int64]]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Return samples int16 (B, T) with zeros behind each, lengths int64 (B,), classes int64 (B,), what is heard.

        The last is a list of samples and lengths, at first the same. A training step puts a new view into it: whoever
        is asked about the same batch after it, such as a teacher, hears what the student heard (Beyer et al. 2022).
        """
        sounds, classes = zip(*examples, strict=True)
        samples_BT, length_B = map(torch.from_numpy, pad_sounds(sounds))
        return samples_BT, length_B, torch.from_numpy(np.stack(classes)), [samples_BT, length_B]

    def lengths(self) -> np.ndarray:
        """Return (N, 2) lengths in begun tenths of a second: within one, batches are drawn anew each epoch."""
        tenths_N = np.array([-(-len(sound) * PARTS_OF_A_SECOND // self.rate) for sound in self.sounds], np.int64)
        return np.stack([tenths_N, tenths_N], 1)

    def inputs(self) -> list[str]:
        """Return each recording as the predictor takes it: a data URL, which needs no file."""
        return [wav_url(sound, self.rate) for sound in self.sounds]

    def references(self) -> list[str]:
        """Return each recording's label."""
        return [self.labels[number] for number in self.classes]

    def with_targets(self, answers: list[Any]) -> SoundDataset:
        """Return the same recordings with the labels a predictor gave them."""
        number = {label: i for i, label in enumerate(self.labels)}
        return replace(self, classes=np.array([number[answer["label"]] for answer in answers], np.int64))

    def with_silence(self, seconds: float) -> SoundDataset:
        """Return the same recordings, each with that much silence behind it."""
        silence_T = np.zeros(round(seconds * self.rate), np.int16)
        return replace(self, sounds=[np.concatenate([sound, silence_T]) for sound in self.sounds])

    def __add__(self, other: SoundDataset) -> SoundDataset:
        """Return the recordings of both."""
        classes = np.concatenate([self.classes, other.classes])
        return replace(self, sounds=[*self.sounds, *other.sounds], classes=classes)


def read_sounds(root: Path, split: str) -> list[np.ndarray]:
    """Return a split's recordings int16 (T,) each."""
    ends_N = np.load(root / split / "ends.npy", allow_pickle=False)
    return np.split(np.load(root / split / "samples.npy", allow_pickle=False), ends_N[:-1])


def read_rate(root: Path) -> int:
    """Return the samples a second."""
    return int(read_json(root / "assets" / "sound.json")["rate"])
