"""Passages of running text with fixed blanks, on disk and in batches, and what counts alone guess for the blanks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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
from components.data.neighbour_counts import NeighbourCounts
from components.data.readers.english_texts import read_documents
from components.data.readers.word_questions import read_pairs
from components.inference.english_words import words
from components.inference.masked_language_model import BLANK, FIRST_WORD, LONGEST, MASK
from components.inference.tokenizers import PAD, SPECIAL_TOKENS, Tokenizer, load_tokenizer

BLANKS = round(0.15 * LONGEST)  # of a passage
NO_BLANK = -1
EVALUATED = {"dev": 500, "test": 1000}  # passages, spread evenly over what is held out
BASELINES = ("unigram", "bigram")
GUESSES = 5


class Split(Config):
    """datasets.<name>.split: where the text lies, and sets of rated pairs of words by which embeddings are judged."""

    text: list[str] = Field(min_length=1, description="folders of books and articles")
    dev: dict[str, str] = Field({}, description="name of a set of rated pairs: its file")
    test: dict[str, str] = {}
    analogies: str | None = Field(None, description="of word_embedding")
    held_out: float | None = Field(None, description="of word_embedding, which may hold out parts of a text")
    seed: int = 1


def prepare_passages(
    raw: Path, out: Path, split: Mapping[str, Any], vocabulary: int, every: int, shown: list[str]
) -> dict[str, Any]:
    """Write words, passages, blanks and the baselines' guesses; return what is worth showing.

    every: of as many documents, taken by length, one is dev and another is test, whole: they share nothing with train.
    shown: sentences with [words] that stand first in test and are not counted; those whose [words] were not learnt are
        left out.

    Raises:
        ModelpressError: no text, too little of it, or a malformed file of pairs.
    """
    config = parse_config(Split, dict(split), f"datasets.{raw.name}.split")
    documents = [document for folder in config.text for document in read_documents(raw / folder)]
    parts = split_documents(documents, every)
    write_text(out / "assets" / "words.txt", _vocabulary(parts["train"], vocabulary))
    tokenizer = load_tokenizer(out / "assets" / "words.txt")
    train = [np.array(tokenizer.encode(document), np.int32) for document in parts["train"]]
    counts = NeighbourCounts(train, len(tokenizer), FIRST_WORD)
    np.save(out / "unigram.npy", counts.unigram_V.astype(np.float32))
    np.save(out / "train.npy", np.concatenate([_cut(text) for text in train]))
    facts: dict[str, Any] = {"vocabulary": len(tokenizer), "documents": {k: len(v) for k, v in parts.items()}}
    facts["words"] = {name: sum(map(len, found)) for name, found in parts.items()}
    for number, name in enumerate(EVALUATED):
        texts = _with_blanks(parts[name], tokenizer, EVALUATED[name], np.random.default_rng([config.seed, number]))
        if not texts:
            raise ModelpressError(f"datasets.{raw.name}: no passage of {LONGEST} words held out for {name}; add text")
        before = [text for text in shown if _is_known(text, tokenizer)] if name == "test" else []
        write_text(out / f"{name}.txt", "".join(f"{text}\n" for text in [*before, *texts]))
        rows = _rows([*before, *texts], tokenizer)
        guesses = _guesses(counts, rows["words"], rows["blank"])
        np.savez(out / f"{name}.npz", allow_pickle=False, **rows, **guesses, shown=np.int64(len(before)))
        write_json(out / f"{name}_pairs.json", _rated_pairs(raw, getattr(config, name)))
        facts[name] = f"{BLANKS * len(texts):,} blanks in {len(texts):,} passages"
    return facts


def _rated_pairs(raw: Path, files: Mapping[str, str]) -> dict[str, list[Any]]:
    return {group: [[*q.words, q.answer] for q in read_pairs(raw / file, group)] for group, file in files.items()}


def split_documents(documents: list[list[str]], every: int) -> dict[str, list[list[str]]]:
    """Return the documents of "train", "dev" and "test": each has long ones and short ones in proportion."""
    ranked = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    held_out = {every // 3: "dev", every // 3 + every // 2: "test"}
    parts: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for index, name in sorted((index, held_out.get(rank % every, "train")) for rank, index in enumerate(ranked)):
        parts[name].append(documents[index])
    return parts


def _vocabulary(documents: list[list[str]], size: int) -> str:
    """Return the special tokens and the most frequent words, a line each, `size` in all; ties by code point."""
    counts = Counter(word for document in documents for word in document)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return "".join(f"{word}\n" for word in [*SPECIAL_TOKENS, "<mask>", *ranked[: size - FIRST_WORD]])


def _is_known(text: str, tokenizer: Tokenizer) -> bool:
    """Return whether a text has words in brackets and all of them are of the vocabulary."""
    ids = [number for part in BLANK.findall(text) for number in tokenizer.encode(words(part))]
    return bool(ids) and min(ids) >= FIRST_WORD


def _cut(text: np.ndarray) -> np.ndarray:
    """Return a text as whole passages (n, LONGEST); what is left at its end goes."""
    return text[: len(text) // LONGEST * LONGEST].reshape(-1, LONGEST)


def _with_blanks(documents: list[list[str]], tokenizer: Tokenizer, most: int, rng: np.random.Generator) -> list[str]:
    """Return passages in which BLANKS words of the vocabulary stand in brackets, drawn once and for all."""
    passages = [
        document[start : start + LONGEST]
        for document in documents
        for start in range(0, len(document) - LONGEST + 1, LONGEST)
    ]
    texts = []
    for index in np.unique(np.linspace(0, len(passages) - 1, min(most, len(passages)), dtype=int)):
        passage = passages[index]
        known = np.flatnonzero(np.array(tokenizer.encode(passage)) >= FIRST_WORD)
        if len(known) >= BLANKS:
            chosen = set(rng.choice(known, BLANKS, replace=False).tolist())
            texts.append(" ".join(f"[{word}]" if i in chosen else word for i, word in enumerate(passage)))
    return texts


def _rows(texts: list[str], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Return "words" int32 (n, LONGEST), PAD behind, and "blank" int64 (n, BLANKS), places, NO_BLANK behind."""
    words_NL = np.full((len(texts), LONGEST), PAD, np.int32)
    blank_NB = np.full((len(texts), BLANKS), NO_BLANK, np.int64)
    for text, words_L, blank_B in zip(texts, words_NL, blank_NB, strict=True):
        ids: list[int] = []
        places: list[int] = []
        for part in BLANK.split(text):
            found = tokenizer.encode(words(part))
            places += range(len(ids), len(ids) + len(found)) if BLANK.fullmatch(part) else []
            ids += found
        words_L[: len(ids)] = ids
        blank_B[: len(places)] = places
    return {"words": words_NL, "blank": blank_NB}


def _guesses(counts: NeighbourCounts, words_NL: np.ndarray, blank_NB: np.ndarray) -> dict[str, np.ndarray]:
    """Return each baseline's likeliest words int32 (n, BLANKS, GUESSES), their probabilities, and the right word's."""
    shape = blank_NB.shape
    found: dict[str, np.ndarray] = {}
    for name in BASELINES:
        found[f"{name}_word"] = np.full((*shape, GUESSES), PAD, np.int32)
        found[f"{name}_probability"] = np.zeros((*shape, GUESSES), np.float32)
        found[f"{name}_right"] = np.zeros(shape, np.float32)
    for row, (words_L, blank_B) in enumerate(zip(words_NL, blank_NB, strict=True)):
        seen_L = words_L.copy()
        seen_L[blank_B[blank_B >= 0]] = MASK
        for column, place in enumerate(blank_B[blank_B >= 0]):
            sides = (_neighbour(seen_L, place - 1), _neighbour(seen_L, place + 1))
            for name, probability_V in zip(BASELINES, (counts.unigram_V, counts.between(*sides)), strict=True):
                best = _likeliest(probability_V, GUESSES)
                found[f"{name}_word"][row, column, : len(best)] = best
                found[f"{name}_probability"][row, column, : len(best)] = probability_V[best]
                found[f"{name}_right"][row, column] = probability_V[words_L[place]]
    return found


def _neighbour(seen_L: np.ndarray, place: int) -> int | None:
    if not 0 <= place < len(seen_L) or seen_L[place] in (PAD, MASK):
        return None
    return int(seen_L[place])


def _likeliest(probability_V: np.ndarray, count: int) -> np.ndarray:
    top = np.sort(np.argpartition(-probability_V, count)[:count])  # of equal ones the more frequent word first
    return top[np.argsort(-probability_V[top], kind="stable")]


Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Passages:
    """One split: words int32 (n, LONGEST), places of blanks int64 (n, BLANKS), NO_BLANK behind a row's last.

    texts: the same with the words to be guessed in brackets; the first `shown` ones are not counted. guesses: what each
    baseline makes of the blanks. pairs: {set: [word, other word, people's rating]}. train has passages alone.
    """

    words: np.ndarray
    blank: np.ndarray
    texts: list[str]
    shown: int
    guesses: Mapping[str, np.ndarray]
    pairs: Mapping[str, list[tuple[str, str, float]]]
    tokenizer: Tokenizer

    @classmethod
    def load(cls, root: Path, split: str) -> Passages:
        """Read a split written by prepare_passages."""
        tokenizer = load_tokenizer(root / "assets" / "words.txt")
        if split == "train":
            words_NL = np.load(root / "train.npy", allow_pickle=False)
            return cls(words_NL, np.full((len(words_NL), BLANKS), NO_BLANK), [], 0, {}, {}, tokenizer)
        with np.load(root / f"{split}.npz", allow_pickle=False) as file:
            arrays = dict(file)
        texts = (root / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        shown, pairs = int(arrays.pop("shown")), read_json(root / f"{split}_pairs.json")
        return cls(arrays.pop("words"), arrays.pop("blank"), texts, shown, arrays, pairs, tokenizer)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.words[index], self.blank[index]

    def collate(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
        """Return int64 words (B, L), the same with MASK at the blanks, the blanks' places and words (B, N).

        Where a row has fewer blanks, the place is 0 and the word NO_BLANK. In train there are none: a step makes them.
        """
        words_BL, blank_BN = (torch.from_numpy(np.stack(part).astype(np.int64)) for part in zip(*examples, strict=True))
        place_BN, there_BN = blank_BN.clamp(min=0), blank_BN >= 0
        word_BN = torch.where(there_BN, words_BL.gather(1, place_BN), NO_BLANK)
        hidden_BL = torch.zeros_like(words_BL).scatter_reduce(1, place_BN, there_BN.long(), "amax") > 0
        return words_BL, torch.where(hidden_BL, MASK, words_BL), place_BN, word_BN

    def lengths(self) -> None:
        """Return None: all passages are equally long, so the recipe gives batch_size."""

    def inputs(self) -> list[str]:
        """Return each text as the predictor takes it: it hides the words in brackets and says how likely they are."""
        return list(self.texts)

    def references(self) -> list[str]:
        """Return each text as it was."""
        return [BLANK.sub(lambda match: match[0][1:-1], text) for text in self.texts]

    def counted(self) -> np.ndarray:
        """Return which blanks scores are about, bool (n, BLANKS)."""
        return (self.blank >= 0) & (np.arange(len(self))[:, None] >= self.shown)

    def hidden_words(self) -> np.ndarray:
        """Return the words at the blanks, int64 (n, BLANKS); anything where there is no blank."""
        return np.take_along_axis(self.words, np.maximum(self.blank, 0), 1).astype(np.int64)

    def with_targets(self, answers: list[Any]) -> Passages:
        """Return the same: what a text says, no teacher can change."""
        return self

    def __add__(self, other: Passages) -> Passages:
        """Return the passages of both, without the baselines' guesses."""
        words_NL, blank_NB = np.concatenate([self.words, other.words]), np.concatenate([self.blank, other.blank])
        return replace(self, words=words_NL, blank=blank_NB, texts=self.texts + other.texts, guesses={})


def read_unigram(root: Path) -> Tensor:
    """Return how large a share of the training text's words each word is, float32 (V,); special ids have none."""
    return torch.from_numpy(np.load(root / "unigram.npy", allow_pickle=False))


def scores(right_n: np.ndarray, probability_n: Iterable[float]) -> tuple[float, float]:
    """Return accuracy in percent and perplexity of guesses: which were right, and the right words' probabilities."""
    likelihood_n = np.maximum(np.asarray(list(probability_n), float), 1e-30)
    return 100 * float(np.mean(right_n)), float(np.exp(-np.log(likelihood_n).mean()))
