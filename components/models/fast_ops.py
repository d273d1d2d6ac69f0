"""The few operations whose stock forms are slow on a CPU, written so that they are fast there and the same on a GPU.

Measured on 2 AVX512 cores, torch 2.13 (docs/results.md): the fused attention's bf16 backward is about 20 times slower
than plain products on short rows; drawing dropout masks costs 5 ns an element; label smoothing makes three passes over
the logits where one softmax is enough.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e4  # additive mask: far below any score, and still finite in half precision
_POOL_SIZE = 1 << 24
_pools: dict[tuple[float, torch.dtype], Tensor] = {}


def attention(query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, mask: Tensor | None) -> Tensor:
    """Return scaled dot-product attention (Vaswani et al. 2017, eq. 1), shape (B, H, Q, D).

    mask: additive, broadcastable to (B, H, Q, K), 0 where a key may be seen and MASKED elsewhere; or None.
    """
    if query_BHQD.is_cuda:
        bias = None if mask is None else mask.to(query_BHQD.dtype)
        return F.scaled_dot_product_attention(query_BHQD, key_BHKD, value_BHKD, attn_mask=bias)
    return attention_weights(query_BHQD, key_BHKD, mask) @ value_BHKD


def attention_weights(query_BHQD: Tensor, key_BHKD: Tensor, mask: Tensor | None) -> Tensor:
    """Return the attention matrix (B, H, Q, K): each row sums to one."""
    scores = query_BHQD @ key_BHKD.transpose(-1, -2) * query_BHQD.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return scores.softmax(-1)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return x with elements dropped: on a CPU by a random slice of one mask drawn beforehand.

    The slice's place comes from torch's generator, so that seeding it makes a run repeatable.
    """
    if not training or probability == 0.0:
        return x
    if x.is_cuda or x.numel() > _POOL_SIZE // 2:
        return F.dropout(x, probability)
    pool = _mask_pool(probability, x.dtype)
    offset = int(torch.randint(_POOL_SIZE - x.numel(), ()))
    return x * pool[offset : offset + x.numel()].view(x.shape)


def _mask_pool(probability: float, dtype: torch.dtype) -> Tensor:
    key = (probability, dtype)
    if key not in _pools:
        generator = torch.Generator().manual_seed(0)  # its own, so that building the pool disturbs no other draw
        keep = torch.rand(_POOL_SIZE, generator=generator) >= probability
        _pools[key] = (keep / (1.0 - probability)).to(dtype)
    return _pools[key]


def smoothed_cross_entropy(logits_NV: Tensor, targets_N: Tensor, smoothing: float, ignore_index: int) -> Tensor:
    """Return label-smoothed cross entropy (Szegedy et al. 2016), the mean over targets that are not `ignore_index`.

    The loss is that of F.cross_entropy(..., label_smoothing=smoothing); forward and backward share one softmax.
    """
    loss: Tensor = _SmoothedCrossEntropy.apply(logits_NV, targets_N, smoothing, ignore_index)
    return loss


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_NV, targets_N, smoothing, ignore_index):  # type: ignore[no-untyped-def]
        keep_N = targets_N != ignore_index
        index_N1 = torch.where(keep_N, targets_N, 0)[:, None]
        probs_NV = torch.softmax(logits_NV, -1, dtype=torch.float32)
        picked_N = logits_NV.gather(1, index_N1).float()[:, 0]
        log_norm_N = picked_N - probs_NV.gather(1, index_N1)[:, 0].clamp_min(1e-30).log()
        loss_N = log_norm_N - (1 - smoothing) * picked_N
        if smoothing:
            loss_N = loss_N - smoothing * logits_NV.mean(-1, dtype=torch.float32)
        weight_N = keep_N / keep_N.sum().clamp_min(1)
        # the softmax becomes the gradient in place: p - ((1 - e) onehot + e / V), weighted
        probs_NV.sub_(smoothing / logits_NV.shape[1])
        probs_NV.scatter_add_(1, index_N1, torch.full_like(index_N1, smoothing - 1, dtype=torch.float32))
        probs_NV.mul_(weight_N[:, None])
        ctx.save_for_backward(probs_NV.to(logits_NV.dtype))
        return (loss_N * weight_N).sum()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (grad_NV,) = ctx.saved_tensors
        return grad_NV * grad, None, None, None
