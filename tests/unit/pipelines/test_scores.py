"""A model's scores under a search that its stage did not use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.core.files import new_folder, write_json
from components.core.task import TrainedModel
from components.tasks.translation import TASK, DataConfig, ModelConfig, SearchOptions
from components.training.weights import save_model
from pipelines.scores import model_metrics, torch_scores
from tests.workspace import REPOSITORY, small_corpus

STAGE = {"dev": {"bleu_greedy": 1.0, "bleu_beam4": 2.0}, "test": {"bleu_greedy": 3.0, "bleu_beam4": 4.0}}


def test_they_are_the_stages_and_another_beams_once_for_all_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("components").symlink_to(REPOSITORY / "components")
    small_corpus(Path("raw"))
    root = Path("prepared")
    TASK.prepare(Path("raw"), root, {"reader": "parallel_text"}, DataConfig(tokenizer="word", min_frequency=1))
    config = ModelConfig(architecture="rnn", width=8)
    with new_folder(Path("models/tiny")) as out:
        save_model(TrainedModel(config, TASK.build_model(config, root)), out)
    write_json(model_metrics("tiny", "tiny"), {"quality": STAGE})
    splits = {name: TASK.dataset(root, name) for name in STAGE}

    def scores(beam: int) -> dict[str, dict[str, float]]:
        options = SearchOptions.model_validate({"beam": beam})
        return torch_scores("tiny", "tiny", TASK, options, [options.protocol], splits, root)

    assert scores(4) == STAGE
    assert capsys.readouterr().out == ""
    first = scores(3)
    assert {split: {**values, "bleu_beam3": first[split]["bleu_beam3"]} for split, values in STAGE.items()} == first
    assert capsys.readouterr().out == "tiny: scoring by bleu_beam3\n"
    assert scores(3) == first
    assert capsys.readouterr().out == ""
    torch.manual_seed(1)
    with new_folder(Path("models/tiny")) as out:
        save_model(TrainedModel(config, TASK.build_model(config, root)), out)
    scores(3)
    assert capsys.readouterr().out == "tiny: scoring by bleu_beam3\n"  # another model
