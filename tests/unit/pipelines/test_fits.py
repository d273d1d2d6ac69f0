"""What the fits of a stage give to its passes: what a teacher said is kept, until the teacher is another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.compression.kept_logits import KeptLogits
from components.core.config import parse_config
from components.core.params import Budget, Recipe
from components.core.task import TrainedModel
from components.tasks.binary_addition import TASK
from pipelines.fits import Fits
from tests.workspace import REPOSITORY

TRAIN = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}
ROOT = Path("data/prepared/toy")


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fits:
    monkeypatch.chdir(tmp_path)
    Path("components").symlink_to(REPOSITORY / "components")
    ROOT.mkdir(parents=True)
    TASK.prepare(Path("raw"), ROOT, {"bits": 6, "train": 40, "dev": 10, "test": 10, "seed": 1}, TASK.Data())
    budget = Budget(max_size_mb=1, max_p50_ms=1, min_quality=0)
    recipe = Recipe(task="binary_addition", dataset="sums", data={}, model={}, train=TRAIN, budget=budget)
    return Fits("small", TASK, recipe, {}, ROOT)


def teacher(seed: int) -> TrainedModel:
    torch.manual_seed(seed)
    config = parse_config(TASK.Model, {}, "model")
    return TrainedModel(config, TASK.build_model(config, ROOT))


def keep(fits: Fits, model: TrainedModel, classes: int = 2) -> KeptLogits:
    context = fits.context(model)
    return context.kept_logits(model, context.train, classes, 1.0)


def kept() -> set[str]:
    return {path.name for path in Path(".modelpress/answers/toy").iterdir() if path.name != "lock"}


def test_what_a_teacher_said_is_kept_for_the_next_student(fits: Fits) -> None:
    first = keep(fits, teacher(1))
    (name,) = kept()
    again = keep(fits, teacher(1))
    assert kept() == {name}
    assert torch.equal(first.log_probabilities, again.log_probabilities)
    keep(fits, teacher(1), classes=1)
    assert len(kept()) == 2


def test_what_another_teacher_said_goes_and_so_does_what_a_kill_left(fits: Fits) -> None:
    keep(fits, teacher(1))
    before = kept()
    Path(".modelpress/answers/toy/.half.npz.new-x").write_bytes(b"half")
    keep(fits, teacher(2))
    assert len(kept()) == 1
    assert not kept() & before
