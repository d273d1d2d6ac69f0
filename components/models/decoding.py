"""Greedy and beam search as modules of one loop: start, body, shrink, finish; torch runs them, ONNX holds them.

Sentences of a batch end at different steps. When a quarter of those still searched has ended, `shrink` writes them into
the answer and the search goes on with the others alone: a batch costs what its sentences need, not its longest.
A model that decodes step by step offers `begin` and `advance` (components/models/transformer.py, rnn.py).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEVER = -1e9  # log-probability of what must not be chosen

# A search's state: the step's position; which row of the batch each searched sentence is; the answers of those that
# have ended (batch, T); tokens behind the begin mark (R, T), R = B * beams; whether a hypothesis has ended (B, beams)
SEARCH = ("position", "row", "answer", "tokens", "finished")
RANKING = ("scores", "lengths")  # of a beam's hypotheses, (B, beams)


class StepwiseModel(Protocol):
    """What decoding needs of a model; see Transformer for the meaning of each."""

    def constant_names(self) -> list[str]: ...
    def state_names(self) -> list[str]: ...
    def growing(self) -> dict[str, int]: ...
    def begin(self, source_BS: Tensor, beams: int) -> tuple[list[Tensor], list[Tensor]]: ...
    def advance(
        self, token_R1: Tensor, position: Tensor, constants: list[Tensor], state: list[Tensor], beams: int
    ) -> tuple[Tensor, list[Tensor]]: ...


class Start(nn.Module):
    """Source ids -> constants, then the state (SEARCH, in a beam RANKING, and the model's own)."""

    def __init__(self, model: nn.Module, beams: int, bos: int) -> None:
        super().__init__()
        self.model, self.beams, self.bos = model, beams, bos

    def forward(self, source_BS: Tensor) -> tuple[Tensor, ...]:
        constants, state = self.model.begin(source_BS, self.beams)
        rows, device = source_BS.shape[0], source_BS.device
        row_B = torch.arange(rows, device=device)
        answer_BT = torch.zeros(rows, 0, dtype=torch.int64, device=device)
        position = torch.zeros((), dtype=torch.int64, device=device)
        return (*constants, position, row_B, answer_BT, *self.search(row_B), *state)

    def search(self, row_B: Tensor) -> tuple[Tensor, ...]:
        """Return tokens (B * K, 1) that hold the begin mark, and of a beam scores, finished and lengths (B, K)."""
        tokens = torch.full((row_B.shape[0], 1), self.bos, dtype=torch.int64, device=row_B.device)
        if self.beams == 1:
            return tokens, torch.zeros(row_B.shape[0], 1, dtype=torch.bool, device=row_B.device)
        first = torch.tensor([0.0] + [NEVER] * (self.beams - 1), device=row_B.device)  # all beams start equal: keep one
        scores_BK = first[None].expand(row_B.shape[0], -1).clone()
        finished_BK = torch.zeros(row_B.shape[0], self.beams, dtype=torch.bool, device=row_B.device)
        return tokens.repeat_interleave(self.beams, 0), finished_BK, scores_BK, torch.zeros_like(scores_BK)


class GreedyBody(nn.Module):
    """One step: append the most probable token of each unfinished row."""

    def __init__(self, model: nn.Module, pad: int, eos: int, max_length: int) -> None:
        super().__init__()
        self.model, self.pad, self.eos, self.max_length = model, pad, eos, max_length

    def forward(
        self,
        constants: list[Tensor],
        position: Tensor,
        row_B: Tensor,
        answer_BT: Tensor,
        tokens_BT: Tensor,
        finished_B1: Tensor,
        _ranking: list[Tensor],
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:
        logits, state = self.model.advance(tokens_BT[:, -1:], position, constants, state, 1)
        token = torch.where(finished_B1, self.pad, logits.topk(1).indices)  # ONNX Runtime's TopK beats its ArgMax
        finished = finished_B1 | (token == self.eos)
        tokens = torch.cat([tokens_BT, token], 1)
        go_on = _go_on(finished, position, self.max_length)
        return (go_on, position + 1, row_B.clone(), answer_BT.clone(), tokens, finished, *state)


class BeamBody(nn.Module):
    """One step: the K best continuations of K hypotheses, by log-probability over length ** alpha (Wu et al. 2016)."""

    def __init__(self, model: nn.Module, beams: int, alpha: float, pad: int, eos: int, max_length: int) -> None:
        super().__init__()
        self.model, self.beams, self.alpha = model, beams, alpha
        self.pad, self.eos, self.max_length = pad, eos, max_length

    def forward(
        self,
        constants: list[Tensor],
        position: Tensor,
        row_B: Tensor,
        answer_BT: Tensor,
        tokens_RT: Tensor,
        finished_BK: Tensor,
        ranking: list[Tensor],
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:
        scores_BK, lengths_BK = ranking
        beams, rows = self.beams, scores_BK.shape[0]
        logits, state = self.model.advance(tokens_RT[:, -1:], position, constants, state, beams)
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
        tokens = torch.cat([tokens_RT.index_select(0, origin_R), token_BK.reshape(-1, 1)], 1)
        state = [tensor.index_select(0, origin_R) for tensor in state]
        go_on = _go_on(finished.all(1), position, self.max_length)
        fixed = (position + 1, row_B.clone(), answer_BT.clone())
        return (go_on, *fixed, tokens, finished, scores, lengths.gather(1, parent_BK), *state)


def _go_on(finished: Tensor, position: Tensor, max_length: int) -> Tensor:
    """Return whether more than three quarters of the rows are unfinished and another step is allowed."""
    return (finished.to(torch.int64).sum() * 4 < finished.numel()) & (position + 1 < max_length)


class Shrink(nn.Module):
    """Write the answers so far, and keep of constants and state what belongs to unfinished sentences.

    Every searched row is written, those that go on included: they are written again when they end.
    """

    def __init__(self, beams: int, alpha: float, max_length: int) -> None:
        super().__init__()
        self.beams, self.alpha, self.max_length = beams, alpha, max_length

    def forward(
        self,
        constants: list[Tensor],
        position: Tensor,
        row_B: Tensor,
        answer_BT: Tensor,
        tokens_RT: Tensor,
        finished_BK: Tensor,
        ranking: list[Tensor],
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:
        best_BT = tokens_RT[:, 1:]
        if self.beams > 1:
            scores_BK, lengths_BK = ranking
            best_B = (scores_BK / lengths_BK.clamp(min=1) ** self.alpha).argmax(-1)
            first_B = torch.arange(row_B.shape[0], device=best_B.device) * self.beams
            best_BT = best_BT.index_select(0, first_B + best_B)
        grown = F.pad(answer_BT, (0, best_BT.shape[1] - answer_BT.shape[1]))
        answer = grown.index_copy(0, row_B, best_BT)
        unfinished_B = ~finished_BK.all(1)
        left_L = unfinished_B.nonzero()[:, 0]
        hypotheses = (left_L[:, None] * self.beams + torch.arange(self.beams, device=left_L.device)).reshape(-1)
        again = unfinished_B.any() & (position < self.max_length)
        of_sources = [tensor.index_select(0, left_L) for tensor in constants]
        of_search = [tensor.index_select(0, left_L) for tensor in (finished_BK, *ranking)]
        of_model = [tensor.index_select(0, hypotheses) for tensor in state]
        row, tokens = row_B.index_select(0, left_L), tokens_RT.index_select(0, hypotheses)
        return (again, *of_sources, position.clone(), row, answer, tokens, *of_search, *of_model)


class Finish(nn.Module):
    """The answers (batch, T), each padded behind its end mark."""

    def forward(self, answer_BT: Tensor) -> Tensor:
        return answer_BT.clone()
