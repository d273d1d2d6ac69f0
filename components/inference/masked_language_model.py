"""A sentence with blanks in, the likeliest words for each out: "The captain of the ___ went ashore"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.batches import padded
from components.inference.english_words import words
from components.inference.predictor import Predictor
from components.inference.session import Session
from components.inference.tokenizers import PAD, SPECIAL_TOKENS, UNK, load_tokenizer

MASK = len(SPECIAL_TOKENS)  # the id that stands where a word is to be guessed
FIRST_WORD = MASK + 1
LONGEST = 64  # words: as many as a passage the model has learnt from
BATCH = 32
BLANK = re.compile(r"(_{2,}|\[[^\[\]]*\])")


class MaskedLanguageModelPredictor(Predictor):
    """The graph "fill": `ids` int64 (B, L) with MASK at the blanks, `blank` int64 (B, N), their places, and `asked`
    int64 (B, N), a word for each -> `word` int64 (B, N, K) and `probability` float32 (B, N, K), the K likeliest, and
    `asked_probability` float32 (B, N). A row with fewer blanks names place 0 again, and word 0."""

    unit = "blanks"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        self._words = load_tokenizer(assets / "words.txt")

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Return {"filled", "blanks", "asked"}: the text with the likeliest words; for each blank {word: probability},
        the likeliest first; and for each the probability of the word asked about, or None.

        inputs: English text; ___ is a word to guess, [word] one to guess and to be asked about.

        Raises:
            ModelpressError: a text without a blank, one too long, or a word asked for that was not learnt.
        """
        texts = [self._parse(text) for text in inputs]
        answers: list[dict[str, Any]] = []
        for start in range(0, len(texts), BATCH):
            answers += self._fill(texts[start : start + BATCH])
        return answers

    def count_units(self, answers: list[dict[str, Any]]) -> int:
        """Return the number of blanks."""
        return sum(len(answer["blanks"]) for answer in answers)

    def _fill(self, texts: list[_Text]) -> list[dict[str, Any]]:
        ids_BL = padded([text.ids for text in texts], PAD)
        blank_BN = padded([[place for place, _ in text.blanks] for text in texts], 0)
        asked_BN = padded([[asked or 0 for _, asked in text.blanks] for text in texts], 0)
        outputs = self.sessions["fill"].run(
            ["word", "probability", "asked_probability"], {"ids": ids_BL, "blank": blank_BN, "asked": asked_BN}
        )
        return [self._answer(text, *row) for text, *row in zip(texts, *outputs, strict=True)]

    def _answer(
        self, text: _Text, word_NK: np.ndarray, probability_NK: np.ndarray, asked_N: np.ndarray
    ) -> dict[str, Any]:
        blanks, asked = [], []
        for number, (_, wanted) in enumerate(text.blanks):
            found = zip(word_NK[number], probability_NK[number], strict=True)
            blanks.append({self._words.piece(int(word)): _rounded(value) for word, value in found})
            asked.append(None if wanted is None else _rounded(asked_N[number]))
        best = [next(iter(words)) for words in blanks]
        return {"filled": text.filled(best), "blanks": blanks, "asked": asked}

    def _parse(self, text: str) -> _Text:
        parsed = _Text()
        for part in BLANK.split(text.replace("’", "'")):
            if not BLANK.fullmatch(part):
                parsed.add_words(part, self._words.encode(words(part)))
            elif part.startswith("_"):
                parsed.add_blank(None)
            else:
                for word in words(part) or [part]:
                    parsed.add_blank(self._known(word))
        if not parsed.blanks:
            raise ModelpressError(f"{text[:60]!r}: no blank in it; write ___, or [word] to ask about a word")
        if len(parsed.ids) > LONGEST:
            raise ModelpressError(f"{text[:60]!r}...: {len(parsed.ids)} words; give at most {LONGEST}")
        return parsed

    def _known(self, word: str) -> int:
        (number, *more) = self._words.encode(word) or [UNK]
        if number < FIRST_WORD or more:
            count = len(self._words) - FIRST_WORD
            raise ModelpressError(f"{word!r}: not one of the {count:,} words learnt; ask about another, or write ___")
        return number


class _Text:
    """A text taken apart: the ids of its words, and each blank's place with the word asked about (or None)."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.blanks: list[tuple[int, int | None]] = []
        self._pieces: list[str | None] = []  # of the text, None where a blank is

    def add_words(self, piece: str, ids: list[int]) -> None:
        self._pieces.append(piece)
        self.ids += ids

    def add_blank(self, asked: int | None) -> None:
        if self._pieces and self._pieces[-1] is None:
            self._pieces.append(" ")
        self._pieces.append(None)
        self.blanks.append((len(self.ids), asked))
        self.ids.append(MASK)

    def filled(self, found: list[str]) -> str:
        """Return the text with these words in its blanks."""
        left = iter(found)
        return "".join(next(left) if piece is None else piece for piece in self._pieces)


def _rounded(probability: Any) -> float:
    return float(f"{probability:.3g}")  # more digits would differ between two machines' sums


PREDICTOR = MaskedLanguageModelPredictor
