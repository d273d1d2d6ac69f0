"""Sentence pairs as ids on disk, and the dataset that batches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.errors import ModelpressError
from components.core.files import read_json, write_json, write_text
from components.data.readers import read_pairs
from components.data.readers.text_lines import read_lines
from components.data.vocabulary import train_sentencepiece, train_words
from components.inference.tokenizers import BOS, EOS, PAD, Tokenizer, load_tokenizer

SIDES = ("source", "target")
LONGEST = 126  # tokens; with begin and end marks the positions a Transformer knows


def prepare_pairs(
    raw: Path, out: Path, split: Mapping[str, Any], tokenizer: str, vocabulary: int, min_frequency: int, bleu: str
) -> dict[str, Any]:
    """Write each split's text, and tokenizers learnt from the training pairs alone; return what is worth showing.

    Raises:
        ModelpressError: a sentence is too long.
    """
    splits = read_pairs(raw, split)
    (out / "assets").mkdir(parents=True)
    tokenizers = []
    for side, name in enumerate(SIDES):
        sentences = [pair[side] for pair in splits["train"]]
        if tokenizer == "sentencepiece":
            path = out / "assets" / f"{name}.model"
            train_sentencepiece(sentences, path, vocabulary)
        else:
            path = out / "assets" / f"{name}.txt"
            train_words(sentences, path, min_frequency)
        tokenizers.append(load_tokenizer(path))
    for name, pairs in splits.items():
        (out / name).mkdir()
        for side, side_name in enumerate(SIDES):
            sentences = [pair[side] for pair in pairs]
            rows = [tokenizers[side].encode(text) for text in sentences]
            for number, row in enumerate(rows, 1):
                if len(row) > LONGEST:
                    raise ModelpressError(
                        f"{name}, {side_name} {number}: {len(row)} tokens, at most {LONGEST} are read: "
                        f"{sentences[number - 1][:60]!r}...; leave it out of the data"
                    )
            write_text(out / name / f"{side_name}.txt", "".join(f"{sentence}\n" for sentence in sentences))
            _write_ragged(out / name / f"{side_name}.npz", rows)
    facts = {
        "pairs": {name: len(pairs) for name, pairs in splits.items()},
        "vocabulary": dict(zip(SIDES, map(len, tokenizers), strict=True)),
        "bleu_tokenizer": bleu,
    }
    write_json(out / "pairs.json", facts)
    return facts


def _write_ragged(path: Path, rows: list[list[int]]) -> None:
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    with path.open("wb") as file:
        np.savez(file, ids=np.concatenate([np.asarray(row, np.int32) for row in rows]), ends=ends)


def _read_ragged(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return np.split(arrays["ids"], arrays["ends"][:-1])


@dataclass(frozen=True)
class ParallelDataset:
    """One split: ids for training, text for scoring.

    sources, targets: int32 ids of each sentence, without begin or end marks.
    """

    root: Path
    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    source_text: Sequence[str]
    target_text: Sequence[str]
    target_tokenizer: Tokenizer
    bleu_tokenizer: str

    @classmethod
    def load(cls, root: Path, split: str) -> ParallelDataset:
        """Read a split written by prepare_pairs."""
        folder = root / split
        return cls(
            root=root,
            sources=_read_ragged(folder / "source.npz"),
            targets=_read_ragged(folder / "target.npz"),
            source_text=read_lines(folder / "source.txt"),
            target_text=read_lines(folder / "target.txt"),
            target_tokenizer=_tokenizer(root, "target"),
            bleu_tokenizer=read_json(root / "pairs.json")["bleu_tokenizer"],
        )

    @staticmethod
    def vocabulary_sizes(root: Path) -> tuple[int, int]:
        """Return the number of source and of target tokens."""
        sizes = read_json(root / "pairs.json")["vocabulary"]
        return sizes["source"], sizes["target"]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.sources[index], self.targets[index]

    def collate(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Return int64 source (B, S) with end marks and target (B, T) with begin and end marks, padded behind."""
        sources = [np.append(source, EOS) for source, _ in examples]
        targets = [np.concatenate([[BOS], target, [EOS]]) for _, target in examples]
        return _pad(sources), _pad(targets)

    def lengths(self) -> np.ndarray:
        """Return (examples, 2): target and source tokens, marks included where the model sees them."""
        return np.array([[len(t) + 1, len(s) + 1] for s, t in zip(self.sources, self.targets, strict=True)])

    def inputs(self) -> list[str]:
        """Return the source sentences."""
        return list(self.source_text)

    def references(self) -> list[str]:
        """Return the target sentences."""
        return list(self.target_text)

    def decode_target(self, ids: Sequence[int]) -> str:
        """Return the text of target ids."""
        return self.target_tokenizer.decode(ids)

    def with_targets(self, answers: list[str]) -> ParallelDataset:
        """Return the same sources with other translations, where a translation is not empty."""
        rows = [i for i, text in enumerate(answers) if text]
        return replace(
            self,
            sources=[self.sources[i] for i in rows],
            targets=[np.asarray(self.target_tokenizer.encode(answers[i]), np.int32) for i in rows],
            source_text=[self.source_text[i] for i in rows],
            target_text=[answers[i] for i in rows],
        )

    def __add__(self, other: ParallelDataset) -> ParallelDataset:
        """Return the pairs of both."""
        return replace(
            self,
            sources=[*self.sources, *other.sources],
            targets=[*self.targets, *other.targets],
            source_text=[*self.source_text, *other.source_text],
            target_text=[*self.target_text, *other.target_text],
        )


def _tokenizer(root: Path, side: str) -> Tokenizer:
    model = root / "assets" / f"{side}.model"
    return load_tokenizer(model if model.is_file() else model.with_suffix(".txt"))


def _pad(rows: list[np.ndarray]) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
