"""Masked language model: the words that fill the blanks of a passage, by a Transformer that reads both sides of them.

Metric: `accuracy`, the share of hidden words guessed right, in percent, and `perplexity` beside. 15 % of the words are
chosen; in training 80 % of them are masked, 10 % become another word, 10 % stay (Devlin et al. 2019); to be judged, all
are masked, always the same ones, in books and articles no part of which is in train. Tokens are whole words: people
fill a blank with one, and so do the counts of neighbours the model is held against.
To beat on books-and-wikipedia, test: how often words occur, 4.8 and perplexity 746; counts of both neighbours, 18.8 and
170 (`unigram_` and `bigram_` in metrics/<recipe>/models).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.config import Config
from components.core.task import GraphSpec, LoopSpec, Metric, StepOutput, Task
from components.data.passages import BASELINES, BLANKS, Batch, Passages, prepare_passages, read_unigram, scores
from components.data.passages import Split as SplitConfig
from components.inference.masked_language_model import FIRST_WORD, MASK
from components.inference.tokenizers import PAD
from components.models.fast_ops import smoothed_cross_entropy
from components.models.masked_lm import MaskedLM

SHORT = 0.1  # share of the training passages that are cut short, as people's sentences are
SHOWN = (
    "the captain of the [ship] went ashore",
    "she opened the [door] and went into the room",
    "it was a dark and stormy [night]",
    "he shook his [head] and said nothing",
    "the [king] and the queen of england",
    "i have not the least [doubt] that he will come",
    "the whale swam round the [boat] and the men took their oars",
    "they were [married] in the church the next morning",
    "he put his hand in his [pocket] and took out a letter",
    "she was the [daughter] of a poor clergyman",
    "the sun had set and the [moon] was rising",
    "the second world [war] began in europe",
    "what is the [matter] with you my dear",
    "he got up early in the [morning] to catch the train",
    "he was born in [london] and died there at the age of sixty",
    "the film was directed [by] the same man",
    "i beg your [pardon] sir said the boy",
    "the origin of [species] by means of natural selection",
    "she looked at him with [tears] in her eyes",
    "there was a knock at the [door]",
    "we had nothing to eat but [bread] and cheese",
    "the battle of the first [army] was lost",
    "as soon as he saw [me] he ran away",
    "the old man sat by the [fire] and smoked his pipe",
)


class DataConfig(Config):
    """recipes.<name>.data: which words are learnt, and how much is held out."""

    vocabulary: int = Field(12000, gt=FIRST_WORD, description="the most frequent words, special ones included")
    every: int = Field(20, ge=3, description="of as many documents one is dev and one is test")
    shown: list[str] = Field(list(SHOWN), description="sentences that stand first in golden examples and the report")


class ModelConfig(Config):
    """A Transformer encoder; feed-forward layers of four times its width."""

    width: int = Field(gt=0)
    heads: int = Field(4, gt=0)
    layers: int = Field(gt=0)
    reach: int = Field(2, ge=0, description="places to each side whose words are shown to a word ahead of the layers")
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width: {self.width} is not an even number for each of {self.heads} heads")
        return self


class AnswerOptions(Config):
    """variants.<name>.options: how the graph answers."""

    guesses: int = Field(5, gt=0, description="words for each blank")


class Fill(nn.Module):
    """A model as a user meets it: the likeliest words for each blank, and how likely the word asked about is."""

    def __init__(self, model: MaskedLM, guesses: int) -> None:
        super().__init__()
        self.model = model
        self.guesses = min(guesses, model.vocabulary - FIRST_WORD)

    def forward(self, ids_BL: Tensor, blank_BN: Tensor, asked_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits_BNV = self.model(ids_BL, blank_BN).unflatten(0, blank_BN.shape)[:, :, FIRST_WORD:].float()
        probability_BNV = logits_BNV.softmax(-1)
        best = probability_BNV.topk(self.guesses, -1)
        asked_BN1 = (asked_BN - FIRST_WORD).clamp(min=0)[:, :, None]
        return best.indices + FIRST_WORD, best.values, probability_BNV.gather(2, asked_BN1)[:, :, 0]


class MaskedLanguageModel(Task):
    """See the module."""

    name = "masked_language_model"
    metric = Metric("accuracy", "max", "%")
    Split, Data, Model, Options = SplitConfig, DataConfig, ModelConfig, AnswerOptions
    predictor = "masked_language_model"

    def prepare(self, raw: Path, out: Path, split: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
        return prepare_passages(raw, out, split, data.vocabulary, data.every, data.shown)

    def dataset(self, root: Path, split: str) -> Passages:
        return Passages.load(root, split)

    def build_model(self, config: ModelConfig, root: Path) -> nn.Module:
        return MaskedLM(read_unigram(root), **config.model_dump(), ffn=4 * config.width, pad=PAD)

    def step(self, model: Any, batch: Batch) -> StepOutput:
        words_BL, seen_BL, blank_BN, word_BN = batch
        if model.training:  # into the batch, so that a teacher asked after its student sees the same
            for tensor, value in zip((seen_BL, blank_BN, word_BN), hide(words_BL, model.vocabulary), strict=True):
                tensor.copy_(value)
        logits_MV, word_M = model(seen_BL, blank_BN), word_BN.flatten()
        metrics = {}
        if not model.training:  # an argmax over the vocabulary costs as much as a product
            there_M = word_M >= 0
            right_M = (logits_MV.argmax(-1) == word_M) & there_M
            metrics["accuracy"] = 100 * right_M.sum() / there_M.sum().clamp(min=1)
        return StepOutput(smoothed_cross_entropy(logits_MV, word_M, 0.0, -1), logits_MV, word_M, metrics)

    def graphs(self, model: Any, options: AnswerOptions) -> list[GraphSpec | LoopSpec]:
        ids = torch.full((3, 7), FIRST_WORD)
        ids[0, 2] = ids[1, 4] = MASK
        blank = torch.tensor([[2, 0], [4, 0], [1, 5]])
        auto = torch.export.Dim.AUTO
        free = ({0: auto, 1: auto},) * 3
        outputs = ["word", "probability", "asked_probability"]
        fill = Fill(model, options.guesses)
        return [GraphSpec("fill", fill, (ids, blank, blank + FIRST_WORD), ["ids", "blank", "asked"], outputs, free)]

    def score(self, predictor: Any, examples: Passages) -> dict[str, float]:
        """Return accuracy, perplexity, and `top5`, the share of words among the five guesses, in percent."""
        texts, counted_NB = examples.inputs()[examples.shown :], examples.counted()[examples.shown :]
        word_NB = examples.hidden_words()[examples.shown :]
        ranks, likelihoods = [], []
        for answer, word_B, counted_B in zip(predictor.predict(texts), word_NB, counted_NB, strict=True):
            wanted = [examples.tokenizer.piece(int(word)) for word in word_B[counted_B]]
            ranks += [_rank(word, found) for word, found in zip(wanted, answer["blanks"], strict=True)]
            likelihoods += answer["asked"]
        accuracy, perplexity = scores(np.array(ranks) == 0, likelihoods)
        share = 100 * float(np.mean(np.array(ranks) >= 0))
        return {"accuracy": accuracy, "perplexity": perplexity, f"top{predictor.options['guesses']}": share}

    def score_model(self, model: Any, examples: Passages) -> dict[str, float]:
        """Return what counts of the training text reach on the same blanks, and how well the embeddings are ordered."""
        found: dict[str, float] = {}
        counted_NB, word_NB = examples.counted(), examples.hidden_words()
        for name in BASELINES:
            right_NB = examples.guesses[f"{name}_word"][:, :, 0] == word_NB
            values = scores(right_NB[counted_NB], examples.guesses[f"{name}_right"][counted_NB])
            found |= dict(zip((f"{name}_accuracy", f"{name}_perplexity"), values, strict=True))
        return found | _rank_correlations(model.embedding.table.weight.detach(), examples)


def _rank(word: str, found: Mapping[str, float]) -> int:
    """Return the word's place among those found, the likeliest first, or -1."""
    return list(found).index(word) if word in found else -1


def hide(words_BL: Tensor, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return passages as a training step sees them, the places chosen and their words (below zero: none), (B, BLANKS).

    One row in ten is cut short at any length, and then has fewer blanks.
    """
    rows, length = words_BL.shape
    cut_B1 = torch.randint(2, length + 1, (rows, 1))
    keep_B1 = torch.where(torch.rand(rows, 1) < SHORT, cut_B1, length)
    seen_BL = torch.where(torch.arange(length) < keep_B1, words_BL, PAD)
    draw_BL = torch.where(seen_BL >= FIRST_WORD, torch.rand(rows, length), -1.0)
    draw_BN, place_BN = draw_BL.topk(min(BLANKS, length), dim=1)
    blanks_B1 = (0.15 * keep_B1).round().clamp(min=1)
    chosen_BN = (draw_BN >= 0) & (torch.arange(place_BN.shape[1]) < blanks_B1)
    true_BN = seen_BL.gather(1, place_BN)
    kind_BN = torch.rand(place_BN.shape)
    other_BN = torch.randint(FIRST_WORD, vocabulary, place_BN.shape)
    shown_BN = torch.where(kind_BN < 0.8, MASK, torch.where(kind_BN < 0.9, other_BN, true_BN))
    seen_BL = seen_BL.scatter(1, place_BN, torch.where(chosen_BN, shown_BN, true_BN))
    return seen_BL, place_BN, torch.where(chosen_BN, true_BN, -1)


def _rank_correlations(table_VW: Tensor, examples: Passages) -> dict[str, float]:
    """Return, of each set of rated pairs, 100 times Spearman's correlation of ratings and cosines of the embeddings.

    Only pairs of known words count, `<set>_pairs` of them; a set with fewer than three is left out. The models of
    word_embedding know more words, so that they are asked for rarer ones too.
    """
    from scipy.stats import spearmanr

    unit_VW = nn.functional.normalize(table_VW.float(), dim=-1)
    found = {}
    for name, pairs in examples.pairs.items():
        ids = [(*examples.tokenizer.encode([first, second]), rating) for first, second, rating in pairs]
        known = [(first, second, rating) for first, second, rating in ids if min(first, second) >= FIRST_WORD]
        if len(known) > 2:
            firsts, seconds, ratings = map(list, zip(*known, strict=True))
            cosines = (unit_VW[firsts] * unit_VW[seconds]).sum(-1)
            found[name] = 100 * float(spearmanr(ratings, cosines.tolist()).statistic)
            found[f"{name}_pairs"] = float(len(known))
    return found


TASK = MaskedLanguageModel()
