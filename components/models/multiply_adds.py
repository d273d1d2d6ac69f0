"""How much a model computes: the multiplications with an addition of one forward pass, half its FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-adds that convolutions and matrix products of one forward pass take; all else is left out."""
    from torch.utils.flop_counter import FlopCounterMode

    with _without_onednn(), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2  # it counts both


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Compute an LSTM product by product: oneDNN's is one operator, of which the counter knows nothing."""
    before, torch.backends.mkldnn.enabled = torch.backends.mkldnn.enabled, False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before
