"""What a torch model is scored under."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.task import TrainedModel
from components.evaluation.quality import score_torch_model
from components.export.torch_predictor import torch_predictor
from components.tasks.translation import TASK, DataConfig, ModelConfig
from tests.workspace import small_corpus


@pytest.mark.parametrize("architecture", ["rnn", "transformer"])
def test_translators_of_either_architecture_are_scored_greedily_with_beam_4_and_teacher_forced(
    tmp_path: Path, architecture: str
) -> None:
    small_corpus(tmp_path / "raw")
    TASK.prepare(tmp_path / "raw", tmp_path, {"reader": "parallel_text"}, DataConfig(tokenizer="word", min_frequency=1))
    config = ModelConfig(architecture=architecture, width=8, heads=2, ffn=8, encoder_layers=1, decoder_layers=1)
    model = TrainedModel(config, TASK.build_model(config, tmp_path))
    predictors = {str(o): torch_predictor(TASK, model, o, tmp_path / "assets") for o in TASK.protocols()}
    quality = score_torch_model(TASK, model.module, predictors, {"dev": TASK.dataset(tmp_path, "dev")})
    assert set(quality["dev"]) == {"bleu_greedy", "bleu_beam4", "bleu_teacher_forced", "multiply_adds_m"}
