"""The distance to a teacher: torch's own, and its gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.compression.distillation_loss import distillation_loss, kept_distillation_loss


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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kept", [1, 4, 9])
def test_kept_distillation_loss_is_the_divergence_with_all_other_classes_as_one(temperature: float, kept: int) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 9, requires_grad=True), torch.randn(6, 9)
    reference = student.detach().clone().requires_grad_()
    keep = torch.tensor([True, False, True, True, False, True])
    theirs_MV = (teacher[keep] / temperature).softmax(-1)
    top = theirs_MV.topk(kept)
    ours = kept_distillation_loss(student, top.indices, top.values.log(), keep, temperature)

    def coarse(probabilities_MV: torch.Tensor) -> torch.Tensor:
        known_MK = probabilities_MV.gather(1, top.indices)
        return known_MK if kept == 9 else torch.cat([known_MK, 1 - known_MK.sum(1, keepdim=True)], 1)

    own = coarse((reference[keep] / temperature).softmax(-1))
    expected = F.kl_div(own.log(), coarse(theirs_MV), reduction="batchmean") * temperature**2
    ours.backward()
    expected.backward()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student.grad, reference.grad, rtol=1e-4, atol=1e-5)
