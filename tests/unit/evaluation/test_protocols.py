"""What a torch model is scored under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.core.config import ConfigError, parse_config
from components.core.task import TrainedModel
from components.data.parallel_dataset import ParallelDataset
from components.evaluation.quality import score_torch_model
from components.export.torch_predictor import torch_predictor
from components.inference.tokenizers import PAD
from components.tasks.translation import TASK, DataConfig, ModelConfig, SearchOptions
from tests.workspace import small_corpus

SIZES: dict[str, dict[str, Any]] = {"rnn": {}, "transformer": {"heads": 2, "ffn": 8, "encoder_layers": 1}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    small_corpus(root / "raw")
    TASK.prepare(root / "raw", root, {"reader": "parallel_text"}, DataConfig(tokenizer="word", min_frequency=1))
    return root


@pytest.mark.parametrize("architecture", SIZES)
def test_translators_of_either_architecture_are_scored_greedily_with_beam_4_and_teacher_forced(
    root: Path, architecture: str
) -> None:
    config = parse_config(ModelConfig, {"architecture": architecture, "width": 8, **SIZES[architecture]}, "model")
    model = TrainedModel(config, TASK.build_model(config, root))
    predictors = {str(o): torch_predictor(TASK, model, o, root / "assets") for o in TASK.protocols()}
    quality = score_torch_model(TASK, model.module, predictors, {"dev": TASK.dataset(root, "dev")})
    assert set(quality["dev"]) == {"bleu_greedy", "bleu_beam4", "bleu_teacher_forced", "multiply_adds_m"}


class Oracle(nn.Module):
    """Knows each sentence's reference and says, at every place, the token that many places behind the next one."""

    def __init__(self, examples: ParallelDataset, vocabulary: int, late: int) -> None:
        super().__init__()
        self.vocabulary, self.late = vocabulary, late
        pairs = [examples.collate([examples[i]]) for i in range(len(examples))]
        self.references = {tuple(source[0].tolist()): target[0].tolist() for source, target in pairs}

    def forward(self, source_BS: Tensor, prefix_BT: Tensor) -> Tensor:
        logits_BTV = torch.zeros(*prefix_BT.shape, self.vocabulary)
        for row, source in enumerate(source_BS.tolist()):
            reference = self.references.get(tuple(i for i in source if i != PAD), [])
            for step, token in enumerate(reference[1 + self.late :]):
                logits_BTV[row, step, token] = 1
        return logits_BTV


@pytest.mark.parametrize("late", [0, 1])
def test_teacher_forced_bleu_compares_the_token_after_each_reference_prefix(root: Path, late: int) -> None:
    examples = TASK.dataset(root, "train")  # all of whose words are known
    oracle = Oracle(examples, ParallelDataset.vocabulary_sizes(root)[1], late)
    bleu = TASK.score_model(oracle, examples)["bleu_teacher_forced"]
    assert bleu == pytest.approx(100) if late == 0 else bleu < 95


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "bleu_greedy"),
        ({"beam": 4}, "bleu_beam4"),
        ({"beam": 4, "length_penalty": 0.6}, "bleu_beam4_penalty0.6"),
        ({"beam": 4, "length_penalty": 0, "max_length": 60}, "bleu_beam4_penalty0_max60"),
        ({"max_length": 5}, "bleu_greedy_max5"),
    ],
)
def test_searches_that_answer_differently_have_different_names(options: dict[str, Any], name: str) -> None:
    assert parse_config(SearchOptions, options, "options").protocol == name


def test_greedy_search_takes_no_length_penalty() -> None:
    with pytest.raises(ConfigError, match="length_penalty: greedy search compares no lengths; leave it out"):
        parse_config(SearchOptions, {"length_penalty": 0.5}, "options")
