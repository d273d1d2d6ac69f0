"""Running text as ids of words on disk, the questions the vectors are judged by, and the dataset that batches both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from components.core.config import Config, parse_config
from components.core.errors import ModelpressError
from components.core.files import read_json, write_json, write_text
from components.data.readers.english_texts import read_documents
from components.data.readers.word_questions import Question, read_pairs, read_syntactic

NO_WORD = -1


class Split(Config):
    """datasets.<name>.split: which files ask the questions; text of train that is held out to watch the loss."""

    text: list[str] = Field(min_length=1, description="folders of books and articles")
    dev: dict[str, str] = Field(min_length=1, description="name of a set of rated pairs: its file")
    test: dict[str, str] = Field(min_length=1)
    analogies: str = Field(description="file of analogies; its syntactic sections are asked in test")
    held_out: float = Field(0.01, gt=0, lt=0.5, description="share of the text")
    seed: int = 1


def prepare_words(
    raw: Path, out: Path, split: Mapping[str, Any], min_count: int, piece: int, shown: list[str]
) -> dict[str, Any]:
    """Write the text's pieces, the words, how often each occurs, and each split's questions; return facts to show.

    A question is asked where all its words were learnt. Words rarer than min_count are left out of the text.

    Raises:
        ModelpressError: no text, too little of it, a malformed file of questions.
    """
    config = parse_config(Split, dict(split), f"datasets.{raw.name}.split")
    documents = [words for folder in config.text for words in read_documents(raw / folder)]
    words, texts = number_words(documents, min_count)
    known = set(words)
    asked = {name: _questions(raw, name, config, shown) for name in ("dev", "test")}
    questions = {name: [q for q in found if known.issuperset(q.words)] for name, found in asked.items()}
    order = np.random.default_rng(config.seed)
    pieces = {"dev": [], "train": []}  # type: dict[str, list[np.ndarray]]
    for text in texts:
        for start in range(0, len(text), piece):
            pieces["dev" if order.random() < config.held_out else "train"].append(text[start : start + piece])
    held_out = np.concatenate([np.zeros(0, np.int32), *pieces["dev"]])
    count = len(questions["dev"])
    if not count or len(held_out) < count or not pieces["train"]:
        found = f"{len(held_out):,} words held out for {count:,} questions"
        raise ModelpressError(f"datasets.{raw.name}: {found}; more text, or a larger split.held_out, is needed")
    arrays = {
        "train": _rows(pieces["train"], piece),
        "dev": held_out[: len(held_out) // count * count].reshape(count, -1),
        "test": np.zeros((len(questions["test"]), 0), np.int32),
    }
    for name, rows in arrays.items():
        (out / name).mkdir(parents=True)
        np.save(out / name / "text.npy", rows)
        write_json(out / name / "questions.json", [vars(question) for question in questions.get(name, [])])
    counts_V = np.bincount(arrays["train"][arrays["train"] >= 0], minlength=len(words))
    np.save(out / "counts.npy", np.maximum(counts_V, 1))  # one held out altogether is still one of them
    write_text(out / "assets" / "words.txt", "".join(f"{word}\n" for word in words))
    facts = {
        "documents": len(documents),
        "words": len(words),
        "text": {"train": int(counts_V.sum()), "dev": len(held_out)},
        "questions": {
            name: {group: f"{_count(questions[name], group)} of {_count(found, group)}" for group in _groups(found)}
            for name, found in asked.items()
        },
    }
    write_json(out / "words.json", facts)
    return facts


def number_words(documents: list[list[str]], min_count: int) -> tuple[list[str], list[np.ndarray]]:
    """Return the words, the most frequent first, and each document as int32 ids without the words left out."""
    counts = Counter(word for document in documents for word in document)
    words = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    number = {word: index for index, word in enumerate(words)}
    return words, [np.array([number[w] for w in document if w in number], np.int32) for document in documents]


def _questions(raw: Path, name: str, split: Split, shown: list[str]) -> list[Question]:
    """Return a split's questions in an order of chance, those of test behind the words that are only shown."""
    sets = split.dev if name == "dev" else split.test
    found = [question for group, file in sets.items() for question in read_pairs(raw / file, group)]
    if name == "test":
        found += read_syntactic(raw / split.analogies, "syntactic")
    order = np.random.default_rng(split.seed).permutation(len(found))
    looks = [Question("shown", word, (word,), None) for word in shown] if name == "test" else []
    return looks + [found[i] for i in order]


def _groups(questions: list[Question]) -> list[str]:
    return list(dict.fromkeys(question.group for question in questions))


def _count(questions: list[Question], group: str) -> int:
    return sum(question.group == group for question in questions)


def _rows(pieces: list[np.ndarray], length: int) -> np.ndarray:
    rows = np.full((len(pieces), length), NO_WORD, np.int32)
    for row, piece in zip(rows, pieces, strict=True):
        row[: len(piece)] = piece
    return rows


@dataclass(frozen=True)
class WordDataset:
    """One split: running text int32 (N, L), NO_WORD behind a piece's last word, and questions.

    train has pieces of text and no question; dev has a question and a little held-out text an example; test a question
    and no text.
    """

    text: np.ndarray
    questions: list[Question]

    @classmethod
    def load(cls, root: Path, split: str) -> WordDataset:
        """Read a split written by prepare_words."""
        questions = [Question(**{**q, "words": tuple(q["words"])}) for q in read_json(root / split / "questions.json")]
        return cls(np.load(root / split / "text.npy", allow_pickle=False), questions)

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> np.ndarray:
        row: np.ndarray = self.text[index]
        return row

    def collate(self, examples: list[np.ndarray]) -> Tensor:
        """Return the text as int64 (B, L)."""
        return torch.from_numpy(np.stack(examples).astype(np.int64))

    def lengths(self) -> None:
        """Return None: the pieces are equally long, so the recipe gives batch_size."""

    def inputs(self) -> list[str]:
        """Return each question as the predictor takes it."""
        return [question.text for question in self.questions]

    def references(self) -> list[float | str]:
        """Return each question's answer: people's rating, the analogy's word, or nothing for a word only shown."""
        return ["" if question.answer is None else question.answer for question in self.questions]

    def with_targets(self, answers: list[Any]) -> WordDataset:
        """Return the same: what a text says, no teacher can change."""
        return self

    def __add__(self, other: WordDataset) -> WordDataset:
        """Return the text and the questions of both, which must be equally long pieces."""
        return replace(self, text=np.concatenate([self.text, other.text]), questions=self.questions + other.questions)


def read_counts(root: Path) -> Tensor:
    """Return how often each word occurs in the training text, int64 (V,)."""
    return torch.from_numpy(np.load(root / "counts.npy", allow_pickle=False).astype(np.int64))
