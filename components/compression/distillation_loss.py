"""How far a student's distribution over classes is from its teacher's, with a gradient that is kept, not recomputed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student_NV: Tensor, teacher_NV: Tensor, keep_N: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) at temperature T (Hinton et al. 2015), the mean over rows where keep is true.

    No gradient flows into the teacher.
    """
    loss: Tensor = _Distillation.apply(student_NV, teacher_NV, keep_N, temperature)
    return loss


class _Distillation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_NV, teacher_NV, keep_N, temperature):  # type: ignore[no-untyped-def]
        log_student_NV = F.log_softmax(student_NV.float() / temperature, -1)
        log_teacher_NV = F.log_softmax(teacher_NV.float() / temperature, -1)
        teacher_probs_NV = log_teacher_NV.exp()
        weight_N = keep_N / keep_N.sum().clamp_min(1)
        loss_N = (teacher_probs_NV * (log_teacher_NV - log_student_NV)).sum(-1)
        grad_NV = log_student_NV.exp_().sub_(teacher_probs_NV).mul_(weight_N[:, None] * temperature)
        ctx.save_for_backward(grad_NV.to(student_NV.dtype))
        return (loss_N * weight_N).sum() * temperature**2

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (grad_NV,) = ctx.saved_tensors
        return grad_NV * grad, None, None, None
