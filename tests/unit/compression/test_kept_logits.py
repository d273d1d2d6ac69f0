"""Kept logits: what a teacher said once stands for what it would say again, and is refused where it would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.compression.distill import Distill, Logit, distilling_step
from components.compression.distillation_loss import kept_distillation_loss
from components.compression.kept_logits import KeptLogits, example_keys, kept_logits
from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.task import StepOutput, TrainedModel
from components.models.fast_ops import dropout

CLASSES = 12
PAIRS = [([5, 6], [1, 2, 3]), ([7], [4, 5]), ([5, 6, 7, 8], [1]), ([9, 1], [2, 3, 4, 5])]


def collate(*numbers: int) -> tuple[Tensor, Tensor]:
    """Return source and target ids of some pairs, zeros behind them."""
    sides = zip(*(PAIRS[n] for n in numbers), strict=True)
    source, target = (nn.utils.rnn.pad_sequence([torch.tensor(row) for row in side], True) for side in sides)
    return source, target


class Words(nn.Module):
    """Says of each target what the source's sum and the target before it suggest."""

    def __init__(self, seed: int, sharpness: float = 3.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        generator = torch.Generator().manual_seed(seed)
        self.source, self.target = (
            nn.Parameter(torch.randn(CLASSES, CLASSES, generator=generator) * sharpness) for _ in range(2)
        )

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        seen_BSV = dropout(self.source[source_BS], self.dropout, self.training) * (source_BS > 0)[..., None]
        return seen_BSV.sum(1, keepdim=True) + self.target[target_BT]


class WordTask:
    numeric = False

    def step(self, model: nn.Module, batch: Any) -> StepOutput:
        logits_NV = model(*batch).flatten(0, 1)
        targets_N = batch[1].flatten()
        if self.numeric:
            return StepOutput(logits_NV.mean(), logits_NV, logits_NV.detach() * 2)
        return StepOutput(F.cross_entropy(logits_NV, targets_N), logits_NV, torch.where(targets_N > 0, targets_N, -1))


Keep = Callable[..., KeptLogits]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    def keep(teacher: nn.Module, classes: int, temperature: float = 1.0, task: Any = None) -> KeptLogits:
        batches = [collate(0, 1), collate(2, 3)]
        step = (task or WordTask()).step
        return kept_logits(step, teacher, lambda: batches, classes, temperature, lambda name: tmp_path / name)

    return keep


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_with_all_classes_kept_the_loss_is_as_if_the_teacher_was_asked(keep: Keep, temperature: float) -> None:
    teacher, student, task = TrainedModel(None, Words(1)), Words(2).train(), WordTask()  # type: ignore[arg-type]
    logit = Logit(temperature=temperature, alpha=0.7)
    asking = distilling_step(task, teacher, logit)  # type: ignore[arg-type]
    looking_up = distilling_step(task, teacher, logit, keep(teacher.module, CLASSES, temperature))  # type: ignore[arg-type]
    batch = collate(3, 0, 2)  # in other company, with other padding
    gradients = []
    for step in (asking, looking_up):
        student.zero_grad()
        loss = step(student, batch).loss
        loss.backward()
        gradients.append((loss.detach(), student.source.grad, student.target.grad))
    for asked, looked_up in zip(*gradients, strict=True):
        torch.testing.assert_close(looked_up, asked, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_is_not_kept_counts_as_one_class(keep: Keep, temperature: float) -> None:
    teacher, student, batch = Words(1, 1.0), Words(2, 1.0), collate(0, 2)
    said = WordTask().step(teacher, batch)
    output = WordTask().step(student, batch)
    counted = output.counted()
    said_NV = said.logits.detach().div(temperature).softmax(-1)
    index_NK = said_NV.topk(3).indices

    def coarse(probabilities_NV: Tensor) -> Tensor:
        kept_NK = probabilities_NV.gather(1, index_NK)
        return torch.cat([kept_NK, 1 - kept_NK.sum(1, keepdim=True)], 1)[counted]

    own = coarse(output.logits.div(temperature).softmax(-1))
    relative = (coarse(said_NV) * (coarse(said_NV) / own).log()).sum(-1).mean() * temperature**2
    kept = keep(teacher, 3, temperature).of(batch, counted)
    found = kept_distillation_loss(output.logits, *kept, counted, temperature)
    torch.testing.assert_close(found, relative, rtol=1e-2, atol=1e-3)
    slopes = [torch.autograd.grad(loss, student.source, retain_graph=True)[0] for loss in (found, relative)]
    assert slopes[1].abs().max() > 0.01
    torch.testing.assert_close(*slopes, rtol=2e-2, atol=1e-3)


def test_a_teacher_is_asked_once_for_all_runs(keep: Keep, tmp_path: Path) -> None:
    asked = []
    teacher = Words(1)
    teacher.register_forward_hook(lambda *_: asked.append(None))
    first, second = keep(teacher, 3), keep(teacher, 3)
    assert len(asked) == 1 + 2  # a look whether its examples stay the same, and its two batches
    assert torch.equal(first.log_probabilities, second.log_probabilities)
    assert first.places == second.places
    assert len(list(tmp_path.iterdir())) == 1


def test_a_student_trains_with_the_dropout_that_its_teacher_was_looked_at_with(keep: Keep) -> None:
    teacher, student = TrainedModel(None, Words(1, dropout=0.37)), Words(2, dropout=0.37).train()  # type: ignore[arg-type]
    step = distilling_step(WordTask(), teacher, Logit(), keep(teacher.module, 3))  # type: ignore[arg-type]
    step(student, collate(0, 1)).loss.backward()
    assert student.source.grad is not None


def test_examples_that_change_are_refused(keep: Keep) -> None:
    teacher, (source, target) = Words(1), collate(0, 1)
    kept = keep(teacher, 3)
    with pytest.raises(ConfigError, match=r"logit\.keep: this task's examples are others in each epoch"):
        kept.of((source + 1, target), torch.ones(6, dtype=torch.bool))


def test_examples_that_training_changes_are_refused_before_the_teacher_is_asked(keep: Keep, tmp_path: Path) -> None:
    class Masking(WordTask):
        def step(self, model: nn.Module, batch: Any) -> StepOutput:
            if model.training:
                batch[0][0, 0] += 1
            return super().step(model, batch)

    with pytest.raises(ConfigError, match=r"logit\.keep: this task's examples are others in each epoch"):
        keep(Words(1), 3, task=Masking())
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_cut_is_made_again(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = keep(Words(1), 3)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    again = keep(Words(1), 3)
    assert torch.equal(again.log_probabilities, whole.log_probabilities)
    assert "asking the teacher again" in capsys.readouterr().out


def test_keep_beside_features_is_refused() -> None:
    block = {"model": {}, "feature": {"layer": "trunk"}, "logit": {"keep": 8}}
    with pytest.raises(ConfigError, match=r"logit\.keep: feature asks the teacher in each step anyway"):
        parse_config(Distill, block, "distill")


def test_numbers_have_no_classes_to_keep(keep: Keep) -> None:
    task = WordTask()
    task.numeric = True
    with pytest.raises(ConfigError, match=r"logit\.keep: this task has no distribution"):
        keep(Words(1), 3, task=task)


def test_a_key_tells_examples_apart_and_not_their_padding() -> None:
    wide, narrow = example_keys(collate(0, 1, 2, 3)), example_keys(collate(1))
    assert len(set(wide)) == len(PAIRS)
    assert narrow == [wide[1]]
    swapped = tuple(reversed(collate(0)))
    assert example_keys(swapped) != example_keys(collate(0))
