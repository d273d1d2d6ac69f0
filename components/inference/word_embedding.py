"""Words in, nearest words out: "king", "king - man + woman"; or how alike two words are: "cat ~ dog"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.predictor import Predictor
from components.inference.session import Session

BATCH = 64
DIGITS = 4  # of a cosine
MOST_WORDS = 16  # in one question
WORD = r"[^\W\d_]+(?:['’][^\W\d_]+)*"
SUM = re.compile(rf"\s*[+-]?\s*{WORD}(?:\s*[+-]\s*{WORD})*\s*")
PAIR = re.compile(rf"\s*({WORD})\s*~\s*({WORD})\s*")


class WordEmbeddingPredictor(Predictor):
    """The graph "nearest": `words` int64 (B, N), `weights` float32 (B, N) -> `neighbour` int64 (B, K) and `similarity`
    float32 (B, K), the words nearest to the weighted sum; `given` float32 (B, N), its similarity to the words given."""

    unit = "questions"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        self.words = (assets / "words.txt").read_text(encoding="utf-8").splitlines()
        self._number = {word: number for number, word in enumerate(self.words)}

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Return {"nearest": words, "similarity": cosines} for a word or a sum, {"similarity": cosine} for "a ~ b".

        Raises:
            ModelpressError: no such question, or a word the model has not learnt.
        """
        questions = [self._parse(text) for text in inputs]
        answers: list[dict[str, Any]] = []
        for start in range(0, len(questions), BATCH):
            answers += self._answer(questions[start : start + BATCH], inputs[start : start + BATCH])
        return answers

    def count_units(self, answers: list[dict[str, Any]]) -> int:
        """Return the number of questions."""
        return len(answers)

    def similarities(self, words: Sequence[str]) -> np.ndarray:
        """Return the cosines of all pairs of some words of `self.words`, float32 (N, N)."""
        words_N = np.array([self._number[word] for word in words], np.int64)
        words_NN = np.tile(words_N, (len(words), 1))
        (given_NN,) = self.sessions["nearest"].run(
            ["given"], {"words": words_NN, "weights": np.eye(len(words), dtype=np.float32)}
        )
        return np.asarray(given_NN)

    def _answer(self, questions: list[list[tuple[int, float]]], inputs: list[str]) -> list[dict[str, Any]]:
        most = max(2, *(len(question) for question in questions))
        # a place not used holds the question's first word again, with no weight
        places = [[*question, *[(question[0][0], 0.0)] * (most - len(question))] for question in questions]
        words_BN = np.array([[word for word, _ in row] for row in places], np.int64)
        weights_BN = np.array([[weight for _, weight in row] for row in places], np.float32)
        neighbour_BK, similarity_BK, given_BN = self.sessions["nearest"].run(
            ["neighbour", "similarity", "given"], {"words": words_BN, "weights": weights_BN}
        )
        return [
            {"similarity": _rounded(given_N[1])} if "~" in text else self._nearest(neighbour_K, similarity_K)
            for text, neighbour_K, similarity_K, given_N in zip(
                inputs, neighbour_BK, similarity_BK, given_BN, strict=True
            )
        ]

    def _nearest(self, neighbour_K: np.ndarray, similarity_K: np.ndarray) -> dict[str, Any]:
        words = [self.words[number] for number in neighbour_K]
        return {"nearest": words, "similarity": [_rounded(value) for value in similarity_K]}

    def _parse(self, text: str) -> list[tuple[int, float]]:
        """Return the words' numbers and weights; of a pair the first word's weight is 1, the second's 0."""
        text = " ".join(text.split())  # else the patterns would take the square of a run of blanks in time
        if pair := PAIR.fullmatch(text):
            return [(self._known(pair[1]), 1.0), (self._known(pair[2]), 0.0)]
        if not SUM.fullmatch(text):
            raise ModelpressError(f"{text[:60]!r}: give a word, a sum (king - man + woman) or a pair (cat ~ dog)")
        terms = re.findall(rf"([+-]?)\s*({WORD})", text)
        if len(terms) > MOST_WORDS:
            raise ModelpressError(f"{text[:60]!r}...: {len(terms)} words; give at most {MOST_WORDS}")
        question = [(self._known(word), -1.0 if sign == "-" else 1.0) for sign, word in terms]
        if not any(sum(weight for other, weight in question if other == word) for word, _ in question):
            raise ModelpressError(f"{text[:60]!r}: its words cancel out, and nothing is near nothing; change one")
        return question

    def _known(self, word: str) -> int:
        word = word.lower().replace("’", "'")
        if word not in self._number:
            raise ModelpressError(f"{word[:60]!r}: not one of the {len(self.words):,} words learnt; give another")
        return self._number[word]


def _rounded(cosine: Any) -> float:
    return round(float(cosine), DIGITS)


PREDICTOR = WordEmbeddingPredictor
