"""How far a student's distribution over classes is from its teacher's, with a gradient that is kept, not recomputed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST, TINY = 1e-6, 1e-30  # of all others' probability, and of a class's, whose logarithms are taken


def distillation_loss(student_NV: Tensor, teacher_NV: Tensor, keep_N: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) at temperature T (Hinton et al. 2015), the mean over rows where keep is true.

    No gradient flows into the teacher.
    """
    loss: Tensor = _Distillation.apply(student_NV, teacher_NV, keep_N, temperature)
    return loss


def kept_distillation_loss(
    student_NV: Tensor, classes_MK: Tensor, log_probabilities_MK: Tensor, keep_N: Tensor, temperature: float
) -> Tensor:
    """Return T^2 KL(teacher || student) over the K classes given of a row and one for all others, the mean over M rows.

    classes, log_probabilities: the teacher's likeliest at temperature T, of the M rows where keep is true, in order.
    """
    loss: Tensor = _KeptDistillation.apply(student_NV, classes_MK, log_probabilities_MK, keep_N, temperature)
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


class _KeptDistillation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_NV, classes_MK, log_teacher_MK, keep_N, temperature):  # type: ignore[no-untyped-def]
        scaled_NV = student_NV if temperature == 1 else student_NV.float() / temperature
        grad_NV = torch.softmax(scaled_NV, -1, dtype=torch.float32)
        rows_M1 = keep_N.nonzero()
        own_MK, teacher_MK = grad_NV[rows_M1, classes_MK], log_teacher_MK.exp()
        own_rest_M, rest_M = ((1 - known_MK.sum(1)).clamp_min(LEAST) for known_MK in (own_MK, teacher_MK))
        loss_M = (teacher_MK * (log_teacher_MK - own_MK.clamp_min(TINY).log())).sum(1)
        loss_M += rest_M * (rest_M / own_rest_M).log()
        # of the probabilities, in place, the gradient: what the others lack or have too much they share as they have it
        weight = temperature / max(1, len(rows_M1))
        share_N = torch.zeros_like(grad_NV[:, 0])
        share_N[rows_M1[:, 0]] = (1 - rest_M / own_rest_M) * weight
        grad_NV.mul_(share_N[:, None])
        grad_NV[rows_M1, classes_MK] = (own_MK - teacher_MK) * weight
        ctx.save_for_backward(grad_NV.to(student_NV.dtype))
        return loss_M.sum() * weight * temperature

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (grad_NV,) = ctx.saved_tensors
        return grad_NV * grad, None, None, None, None
