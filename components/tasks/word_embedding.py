"""Word embedding: a vector a word, so that words used alike lie near: skip-gram, CBOW, and counts for contrast.

Metric: `spearman`, the rank correlation with people's ratings of how alike two words are, times 100, the mean over a
split's sets; dev: MTurk-771, test: MEN, WordSim-353 and SimLex-999, each beside it, and `syntactic`, the share of
syntactic analogies answered right, in percent (Mikolov et al. 2013). Only questions whose words were all learnt count.
Expect on 4.7 million words by counts 63 on MEN, 52 on WordSim-353, 19 on SimLex-999 and 22 % of analogies after 20
seconds on one core; benchmarks/word2vec.py holds the trained ones beside gensim's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.config import Config
from components.core.errors import ConfigError
from components.core.task import ClosedForm, GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.word_dataset import Split as SplitConfig
from components.data.word_dataset import WordDataset, prepare_words, read_counts
from components.models.word_counts import PpmiSvd
from components.models.word_vectors import Cbow, NearestWords, SkipGram

SHOWN = ("king", "sea", "doctor", "winter", "happy", "walked", "france", "science", "she", "horse", "bread", "church")


class DataConfig(Config):
    """recipes.<name>.data: which words are learnt, and into which pieces the text is cut."""

    min_count: int = Field(5, gt=0, description="rarer words are left out of the text")
    piece: int = Field(1024, gt=0, description="words of one training example")
    shown: list[str] = Field(
        list(SHOWN), description="words whose neighbours stand first in golden examples and report"
    )


class ModelConfig(Config):
    """A table of vectors and how it comes about."""

    family: Literal["skipgram", "cbow", "counts"]
    width: int = Field(100, gt=1, description="numbers in a vector")
    window: int = Field(5, gt=0, description="words on either side that count as neighbours")
    negatives: int = Field(5, gt=0, description="words of chance against each pair (not: counts)")
    sample: float = Field(1e-3, ge=0, description="words of a larger share are left out at random (not: counts)")

    def idle(self) -> Mapping[str, str]:
        """Return the options that counting neighbours has no use for."""
        reason = "is of families skipgram and cbow, but family is counts"
        return dict.fromkeys(("negatives", "sample"), reason) if self.family == "counts" else {}


class AnswerOptions(Config):
    """variants.<name>.options: how the graph answers."""

    neighbours: int = Field(10, gt=0)


class WordEmbedding(Task):
    """See the module."""

    name = "word_embedding"
    metric = Metric("spearman", "max")
    Split, Data, Model, Options = SplitConfig, DataConfig, ModelConfig, AnswerOptions
    predictor = "word_embedding"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_words(raw, out, split, data.min_count, data.piece, data.shown)

    def dataset(self, root: Path, split: str) -> WordDataset:
        return WordDataset.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        counts_V = read_counts(root)
        if config.family == "counts":
            return PpmiSvd(len(counts_V), config.width, config.window)
        kind = SkipGram if config.family == "skipgram" else Cbow
        return kind(counts_V, config.width, config.window, config.negatives, config.sample)

    def step(self, model: nn.Module, batch: Tensor) -> StepOutput:
        """Return the loss a word; there is nothing in it that a student could be taught to match.

        Raises:
            ConfigError: a model of counts, which has a closed form: no pass can train it further.
        """
        if isinstance(model, ClosedForm):
            raise ConfigError(["family counts is solved, not trained; take skipgram or cbow, or leave the pass out"])
        loss, words_n = model(batch)
        return StepOutput(loss, torch.zeros(len(words_n), 1, device=batch.device), torch.zeros_like(words_n))

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        auto = torch.export.Dim.AUTO
        example = (torch.tensor([[0, 1], [2, 0], [1, 3]]), torch.tensor([[1.0, -1.0], [1.0, 0.0], [1.0, 1.0]]))
        return [
            GraphSpec(
                "nearest",
                NearestWords(model.vectors(), options.neighbours),
                example,
                ["words", "weights"],
                ["neighbour", "similarity", "given"],
                ({0: auto, 1: auto}, {0: auto, 1: auto}),
            )
        ]

    def score(self, predictor: Any, examples: WordDataset) -> dict[str, float]:
        """Return `spearman`, each set's own, and of analogies the share answered right."""
        from scipy.stats import spearmanr

        asked = [question for question in examples.questions if question.answer is not None]
        rated: dict[str, list[tuple[float, float]]] = {}
        right: dict[str, list[bool]] = {}
        for question, answer in zip(asked, predictor.predict([question.text for question in asked]), strict=True):
            if isinstance(question.answer, float):
                rated.setdefault(question.group, []).append((question.answer, answer["similarity"]))
            else:
                right.setdefault(question.group, []).append(answer["nearest"][0] == question.answer)
        sets = {name: 100 * float(spearmanr(*zip(*pairs, strict=True)).statistic) for name, pairs in rated.items()}
        shares = {name: 100 * float(np.mean(found)) for name, found in right.items()}
        return {"spearman": float(np.mean(list(sets.values()))), **sets, **shares}

    def score_model(self, model: nn.Module, examples: WordDataset) -> dict[str, float]:
        return {}  # the predictor measures all there is


TASK = WordEmbedding()
