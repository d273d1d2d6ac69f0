"""The distance to a teacher: torch's own, and its gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.compression.distillation_loss import distillation_loss


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_loss_equals_kl_divergence_and_spares_the_teacher(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 9, requires_grad=True), torch.randn(6, 9, requires_grad=True)
    reference = student.detach().clone().requires_grad_()
    keep = torch.tensor([True, False, True, True, False, True])
    ours = distillation_loss(student, teacher, keep, temperature)
    log_probs = F.log_softmax(reference[keep] / temperature, -1)
    theirs = (
        F.kl_div(log_probs, (teacher.detach()[keep] / temperature).softmax(-1), reduction="batchmean") * temperature**2
    )
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(student.grad, reference.grad)
    assert teacher.grad is None
