"""The distance to a teacher: between distributions over classes, or between predicted numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.compression.distill import Logit, distilling_step
from components.compression.distillation_loss import distillation_loss
from components.core.errors import ConfigError
from components.core.task import StepOutput, TrainedModel


class Numbers:
    """A task that predicts numbers: y = w x, absolute error."""

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
        predicted = model(batch[0])
        return StepOutput((predicted - batch[1]).abs().mean(), predicted, batch[1])


class Classes:
    """A task that predicts classes; one target is not counted."""

    def step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> StepOutput:
        return StepOutput(model(batch[0]).sum(), model(batch[0]), batch[1])


def linear(*weights: float) -> nn.Linear:
    layer = nn.Linear(1, len(weights), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights)[:, None])
    return layer


def distilled(task: Any, student: nn.Module, teacher: nn.Module, batch: Any, alpha: float) -> float:
    step = distilling_step(task, TrainedModel(None, teacher), Logit(alpha=alpha, temperature=2.0))
    return float(step(student.train(), batch).loss.detach())


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_predicted_numbers_are_drawn_to_the_teachers_by_their_squared_distance(alpha: float) -> None:
    batch = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [2.0]])
    loss = distilled(Numbers(), linear(3.0), linear(2.0), batch, alpha)
    assert loss == pytest.approx((1 - alpha) * 3.0 + alpha * 2.5)  # |2|, |4| from the truth; 1, 2 from the teacher


def test_logit_distillation_is_refused_where_there_is_no_distribution() -> None:
    with pytest.raises(ConfigError, match="logit: this task has no distribution"):
        distilled(Classes(), linear(3.0), linear(2.0), (torch.ones(2, 1), torch.tensor([0, 0])), 0.5)


def test_classes_are_drawn_to_the_teachers_where_targets_count() -> None:
    batch = torch.tensor([[1.0], [5.0]]), torch.tensor([0, -1])
    student, teacher = linear(1.0, 0.0), linear(0.0, 1.0)
    with torch.no_grad():
        alone = distillation_loss(student(batch[0][:1]), teacher(batch[0][:1]), torch.tensor([True]), 2.0)
    assert distilled(Classes(), student, teacher, batch, alpha=1.0) == pytest.approx(float(alone))


def test_a_student_learns_its_teachers_forecast_where_the_truth_is_left_out() -> None:
    torch.manual_seed(0)
    student, teacher = linear(0.0), linear(2.0)
    step = distilling_step(Numbers(), TrainedModel(None, teacher), Logit(alpha=1.0))
    optimizer = torch.optim.SGD(student.parameters(), 0.3)
    batch = torch.randn(16, 1), torch.zeros(16, 1)
    for _ in range(30):
        optimizer.zero_grad()
        step(student, batch).loss.backward()
        optimizer.step()
    assert float(student.weight) == pytest.approx(2.0, abs=1e-2)
