"""Distillation: the loss draws the student to the teacher, and the teacher's answers stand beside the references."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.compression.context import Frozen
from components.compression.distill import Distill, Logit, distilling_step, take_over, with_answers
from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.task import TrainedModel
from components.tasks.binary_addition import TASK, Sums

SPLIT = {"bits": 6, "train": 40, "dev": 10, "test": 10, "seed": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    TASK.prepare(Path("raw/sums"), out, SPLIT, TASK.Data())
    return out


def model(root: Path, seed: int) -> TrainedModel:
    torch.manual_seed(seed)
    config = parse_config(TASK.Model, {}, "model")
    return TrainedModel(config, TASK.build_model(config, root))


def test_loss_is_the_stated_mixture_of_the_own_and_the_distance(prepared: Path) -> None:
    data = TASK.dataset(prepared, "train")
    batch = data.collate([data[i] for i in range(8)])
    teacher, student = model(prepared, 1), model(prepared, 2)
    student.module.train()
    own = TASK.step(student.module, batch).loss.item()
    with torch.no_grad():
        theirs, ours = (TASK.step(m.module, batch).logits.log_softmax(-1) for m in (teacher, student))
        distance = (theirs.exp() * (theirs - ours)).sum(-1).mean().item()
    mixed = distilling_step(TASK, teacher, Logit(temperature=1.0, alpha=0.3))(student.module, batch).loss.item()
    assert distance > 0.001
    assert mixed == pytest.approx(0.7 * own + 0.3 * distance, rel=1e-4)


def test_training_on_the_distance_alone_brings_the_student_to_the_teacher(prepared: Path) -> None:
    data = TASK.dataset(prepared, "train")
    batch = data.collate([data[i] for i in range(len(data))])
    teacher, student = model(prepared, 1), model(prepared, 2)
    step = distilling_step(TASK, teacher, Logit(temperature=2.0, alpha=1.0))
    student.module.train()
    optimizer = torch.optim.Adam(student.module.parameters(), 0.02)
    losses = []
    for _ in range(150):
        loss = step(student.module, batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


def test_dev_loss_is_the_tasks_own(prepared: Path) -> None:
    data = TASK.dataset(prepared, "dev")
    batch = data.collate([data[0]])
    student = model(prepared, 2)
    student.module.eval()
    step = distilling_step(TASK, model(prepared, 1), Logit(alpha=1.0))
    assert step(student.module, batch).loss == TASK.step(student.module, batch).loss


def test_a_student_begins_with_the_weights_that_have_its_shapes() -> None:
    def stack(*widths: int) -> torch.nn.Sequential:
        return torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)))

    teacher, student = stack(3, 4, 5, 6), stack(3, 4, 7)
    teacher.norm, student.norm = torch.nn.BatchNorm1d(4), torch.nn.BatchNorm1d(4)
    teacher.norm.running_mean += 3
    before = student[1].weight.clone()
    take_over(teacher, student)
    assert torch.equal(student[0].weight, teacher[0].weight)
    assert student[0].weight.data_ptr() != teacher[0].weight.data_ptr()
    assert torch.equal(student[1].weight, before)
    assert torch.equal(student.norm.running_mean, torch.full((4,), 3.0))
    with pytest.raises(ConfigError, match="no matrix of the student"):
        take_over(teacher, stack(2, 4))


def test_a_student_that_starts_as_the_teacher_is_it_before_it_is_trained(prepared: Path) -> None:
    teacher = model(prepared, 1)
    fitted = []
    context: Any = SimpleNamespace(task=TASK, root=prepared, train=None, fit=lambda module, *_: fitted.append(module))
    for start, same in (("teacher", True), ("scratch", False)):
        student = Distill(model={}, start=start).apply(teacher, context)
        weights = zip(student.module.parameters(), teacher.module.parameters(), strict=True)
        assert all(torch.equal(own, theirs) for own, theirs in weights) == same
    assert len(fitted) == 2


class Taught(Sums):
    """Sums that take their teacher's answers."""

    def with_targets(self, answers: list[str]) -> Sums:
        return Sums([(int(answer), 0) for answer in answers], self.bits)


def test_teachers_answers_double_the_data(prepared: Path) -> None:
    sums = TASK.dataset(prepared, "train")
    train = Taught(sums.pairs, sums.bits)
    asked = []

    def answers(teacher: TrainedModel, examples: Any, options: Any) -> list[Any]:
        asked.append(options)
        return examples.references()

    context: Any = SimpleNamespace(train=train, answers=answers)
    assert with_answers(model(prepared, 1), context, None) is train
    doubled = with_answers(model(prepared, 1), context, {"beam": 4})
    assert (len(doubled), asked) == (2 * len(train), [{"beam": 4}])


def test_answers_are_refused_where_they_would_change_nothing(prepared: Path) -> None:
    data = TASK.dataset(prepared, "train")
    context: Any = SimpleNamespace(train=data, answers=lambda *_: data.references())
    with pytest.raises(ConfigError, match="sequence: a teacher's answers change nothing"):
        with_answers(model(prepared, 1), context, {})


def test_a_teacher_is_asked_where_its_student_is() -> None:
    teacher = torch.nn.Linear(3, 2)
    frozen = Frozen(teacher)
    assert frozen.beside(torch.nn.Linear(1, 1)) is teacher
    elsewhere = frozen.beside(torch.nn.Linear(1, 1, device="meta"))
    assert {p.device.type for p in elsewhere.parameters()} == {"meta"}
    assert frozen.beside(torch.nn.Linear(1, 1, device="meta")) is elsewhere
    assert {p.device.type for p in teacher.parameters()} == {"cpu"}
