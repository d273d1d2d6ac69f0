"""Questions to word vectors: pairs with people's ratings of how alike they are, and analogies.

A file of pairs has two words and a number a line, white space between, and comments behind #; one of analogies (Mikolov
et al. 2013) four words a line, below a line `: section`. All words are read in lower case.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ModelpressError
from components.data.readers.text_lines import read_lines

SYNTACTIC = "gram"  # how the names of syntactic sections begin


@dataclass(frozen=True)
class Question:
    """What the predictor is asked, the words in it, and the right answer: a rating, a word, or None for just looking.

    group: the set the question belongs to, as scores call it.
    """

    group: str
    text: str
    words: tuple[str, ...]
    answer: float | str | None


def read_pairs(path: Path, group: str) -> list[Question]:
    """Return a file's rated pairs as questions "a ~ b".

    Raises:
        ModelpressError: a missing file, or a line that is no pair with a rating.
    """
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            first, second, rating = line.lower().split()
            found.append(Question(group, f"{first} ~ {second}", (first, second), float(rating)))
        except ValueError:
            raise ModelpressError(f"{path}:{number}: {line!r} is not two words and a rating") from None
    return found


def read_syntactic(path: Path, group: str) -> list[Question]:
    """Return the analogies of a file's syntactic sections as questions "b - a + c", where a is to b as c to the answer.

    Raises:
        ModelpressError: a missing file, or a line that is neither a section nor four words.
    """
    found, syntactic = [], False
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith(":"):
            syntactic = line[1:].strip().startswith(SYNTACTIC)
            continue
        words = tuple(line.lower().split())
        if len(words) != 4:
            raise ModelpressError(f"{path}:{number}: {line!r} is not four words")
        a, b, c, answer = words
        if syntactic:
            found.append(Question(group, f"{b} - {a} + {c}", words, answer))
    return found
