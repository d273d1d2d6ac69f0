"""Splits made upstream: {train,dev,test}.{en,ja}, one sentence a line, tokens separated by spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.core.config import Config
from components.core.errors import ModelpressError
from components.data.readers.text_lines import read_lines

SPLITS = ("train", "dev", "test")


class Split(Config):
    """datasets.<name>.split of this reader: the files are the splits."""

    reader: Literal["parallel_text"]


def read(raw: Path, split: Split) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of each split, (English, Japanese), as they stand in the files.

    Raises:
        ModelpressError: a missing file, an empty line, a line that isn't UTF-8, files of unequal length.
    """
    return {name: _read_split(raw / f"{name}.en", raw / f"{name}.ja") for name in SPLITS}


def _read_split(source: Path, target: Path) -> list[tuple[str, str]]:
    sources, targets = _sentences(source), _sentences(target)
    if len(sources) != len(targets):
        raise ModelpressError(
            f"{target}: {len(targets):,} lines, but {source.name} has {len(sources):,}; "
            "make line n of one the translation of line n of the other"
        )
    return list(zip(sources, targets, strict=True))


def _sentences(path: Path) -> list[str]:
    sentences = [line.strip() for line in read_lines(path)]
    if not sentences:
        raise ModelpressError(f"{path}: empty file; fetch the dataset again")
    if "" in sentences:
        line = sentences.index("") + 1
        raise ModelpressError(f"{path}:{line}: empty line; give it a sentence, or remove it from both files")
    return sentences
