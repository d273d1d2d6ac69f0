"""Greedy and beam search as modules of one loop: start, body, finish. Torch runs them eagerly, ONNX as one graph.

A model that decodes step by step offers `begin` and `advance` (components/models/transformer.py, rnn.py).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEVER = -1e9  # log-probability of what must not be chosen


class StepwiseModel(Protocol):
    """What decoding needs of a model; see Transformer for the meaning of each."""

    def constant_names(self) -> list[str]: ...
    def state_names(self) -> list[str]: ...
    def growing(self) -> dict[str, int]: ...
    def begin(self, source_BS: Tensor, beams: int) -> tuple[list[Tensor], list[Tensor]]: ...
    def advance(
        self, token_R1: Tensor, position: Tensor, constants: list[Tensor], state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]: ...


class GreedyStart(nn.Module):
    """Source ids -> constants, then the state: last token (B, 1), finished (B, 1), tokens so far (B, 0), the model's."""

    def __init__(self, model: nn.Module, bos: int) -> None:
        super().__init__()
        self.model, self.bos = model, bos

    def forward(self, source_BS: Tensor) -> tuple[Tensor, ...]:
        constants, state = self.model.begin(source_BS, 1)
        rows = source_BS.shape[0]
        token = torch.full((rows, 1), self.bos, dtype=torch.int64, device=source_BS.device)
        finished = torch.zeros(rows, 1, dtype=torch.bool, device=source_BS.device)
        return (*constants, token, finished, token[:, :0].clone(), *state)


class GreedyBody(nn.Module):
    """One step: append the most probable token of each unfinished row."""

    def __init__(self, model: nn.Module, pad: int, eos: int) -> None:
        super().__init__()
        self.model, self.pad, self.eos = model, pad, eos

    def forward(
        self,
        step: Tensor,
        constants: list[Tensor],
        token_B1: Tensor,
        finished_B1: Tensor,
        tokens_BT: Tensor,
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:
        logits, state = self.model.advance(token_B1, step, constants, state)
        token = logits.argmax(-1, keepdim=True)
        token = torch.where(finished_B1, self.pad, token)
        finished = finished_B1 | (token == self.eos)
        return (~finished.all(), token, finished, torch.cat([tokens_BT, token], 1), *state)


class GreedyFinish(nn.Module):
    """The tokens (B, T), each row padded behind its end mark."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return tokens_BT.clone()


class BeamStart(nn.Module):
    """Source ids -> constants, then the state: sequences (B*K, 1), scores, finished, lengths (B, K), the model's."""

    def __init__(self, model: nn.Module, beams: int, bos: int) -> None:
        super().__init__()
        self.model, self.beams, self.bos = model, beams, bos

    def forward(self, source_BS: Tensor) -> tuple[Tensor, ...]:
        constants, state = self.model.begin(source_BS, self.beams)
        rows, device = source_BS.shape[0], source_BS.device
        sequences = torch.full((rows * self.beams, 1), self.bos, dtype=torch.int64, device=device)
        first = torch.tensor([0.0] + [NEVER] * (self.beams - 1), device=device)  # all beams start equal: keep one
        scores = first[None].expand(rows, -1).clone()
        finished = torch.zeros(rows, self.beams, dtype=torch.bool, device=device)
        return (*constants, sequences, scores, finished, torch.zeros_like(scores), *state)


class BeamBody(nn.Module):
    """One step: the K best continuations of K hypotheses, by log-probability over length ** alpha (Wu et al. 2016)."""

    def __init__(self, model: nn.Module, beams: int, alpha: float, pad: int, eos: int) -> None:
        super().__init__()
        self.model, self.beams, self.alpha, self.pad, self.eos = model, beams, alpha, pad, eos

    def forward(
        self,
        step: Tensor,
        constants: list[Tensor],
        sequences_RT: Tensor,
        scores_BK: Tensor,
        finished_BK: Tensor,
        lengths_BK: Tensor,
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:
        beams, rows = self.beams, scores_BK.shape[0]
        logits, state = self.model.advance(sequences_RT[:, -1:], step, constants, state)
        top, token = logits.float().topk(beams, -1)  # the K best of each beam hold the K best of all
        log_probs = (top - logits.float().logsumexp(-1, keepdim=True)).view(rows, beams, beams)
        token = token.view(rows, beams, beams)
        # a finished hypothesis goes on as itself: one padding token of log-probability zero
        stay = F.one_hot(torch.zeros((), dtype=torch.int64, device=top.device), beams).to(top.dtype)
        log_probs = torch.where(finished_BK[..., None], (1 - stay) * NEVER, log_probs)
        token = torch.where(finished_BK[..., None], self.pad, token)
        total_BKK = scores_BK[..., None] + log_probs
        lengths = lengths_BK + (~finished_BK).to(lengths_BK.dtype)
        ranked = total_BKK / lengths[..., None].clamp(min=1) ** self.alpha
        _, best_BK = ranked.reshape(rows, beams * beams).topk(beams, -1)
        parent_BK = best_BK // beams
        token_BK = token.reshape(rows, beams * beams).gather(1, best_BK)
        scores = total_BKK.reshape(rows, beams * beams).gather(1, best_BK)
        finished = finished_BK.gather(1, parent_BK) | (token_BK == self.eos)
        origin_R = (torch.arange(rows, device=top.device)[:, None] * beams + parent_BK).reshape(-1)
        sequences = torch.cat([sequences_RT.index_select(0, origin_R), token_BK.reshape(-1, 1)], 1)
        state = [tensor.index_select(0, origin_R) for tensor in state]
        return (~finished.all(), sequences, scores, finished, lengths.gather(1, parent_BK), *state)


class BeamFinish(nn.Module):
    """The best hypothesis of each source: tokens (B, T) behind the begin mark."""

    def __init__(self, beams: int, alpha: float) -> None:
        super().__init__()
        self.beams, self.alpha = beams, alpha

    def forward(self, sequences_RT: Tensor, scores_BK: Tensor, lengths_BK: Tensor) -> Tensor:
        best_B = (scores_BK / lengths_BK.clamp(min=1) ** self.alpha).argmax(-1)
        rows = torch.arange(scores_BK.shape[0], device=best_B.device) * self.beams + best_B
        return sequences_RT.index_select(0, rows)[:, 1:]
