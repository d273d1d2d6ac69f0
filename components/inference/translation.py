"""Sentences in, sentences out: tokenize, one run of a graph that holds the whole search, join the tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.inference.batches import padded, rows_of_like_length
from components.inference.predictor import Predictor
from components.inference.session import Session
from components.inference.tokenizers import EOS, PAD, load_tokenizer

BATCH = 32
MAX_SOURCE = 100  # tokens; training saw no longer ones, and no positions beyond 128

LOG = logging.getLogger(__name__)


class TranslationPredictor(Predictor):
    """The graph "translate" takes `source` int64 (B, S), each row ending in EOS, and gives `target` int64 (B, T)."""

    unit = "tokens"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        paths = {path.stem: path for path in assets.iterdir()}
        self._source, self._target = load_tokenizer(paths["source"]), load_tokenizer(paths["target"])

    def predict(self, inputs: list[str]) -> list[str]:
        """Return the translations; the sentences run in batches of like length, which changes no order."""
        return [self._target.decode(ids) for ids in self.predict_ids(inputs)]

    def predict_ids(self, inputs: list[str]) -> list[list[int]]:
        """Return the target ids of each sentence, up to its end mark: none of a sentence without a token.

        Of a sentence of more than MAX_SOURCE tokens the first ones are read, and a warning is logged.
        """
        sources = [self._source.encode(text) for text in inputs]
        if long := [i for i, ids in enumerate(sources) if len(ids) > MAX_SOURCE]:
            LOG.warning(
                "%d of %d inputs, the first is number %d, have more than %d tokens: only so many are read",
                len(long), len(sources), long[0] + 1, MAX_SOURCE,
            )  # fmt: skip
        sources = [[*ids[:MAX_SOURCE], EOS] for ids in sources]
        said = [i for i, ids in enumerate(sources) if ids != [EOS]]
        answers: list[list[int]] = [[] for _ in sources]
        for batch in rows_of_like_length([len(sources[i]) for i in said], BATCH):
            rows = [said[place] for place in batch]
            for i, ids in zip(rows, self._run([sources[i] for i in rows]), strict=True):
                answers[i] = ids
        return answers

    def _run(self, sources: list[list[int]]) -> list[list[int]]:
        (target_BT,) = self.sessions["translate"].run(["target"], {"source": padded(sources, PAD)})
        return [_until_end(row) for row in target_BT.tolist()]

    def count_units(self, answers: list[str]) -> int:
        """Return the target tokens, end marks included."""
        return sum(len(self._target.encode(text)) + 1 for text in answers)


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS)] if EOS in ids else [i for i in ids if i != PAD]


PREDICTOR = TranslationPredictor
