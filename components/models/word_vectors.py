"""Word2vec (Mikolov et al. 2013): skip-gram and CBOW with negative sampling, as products of matrices.

The papers' programs update a word at a time. Here a batch of running text is cut into blocks; the words of a block
share as many words of chance as their negatives, each weighted so that a word meets `negatives` of them for each of its
pairs, and all scores of a block are one product: (block, D) by (D, block + 2 window + block). Reduced windows,
subsampling and the noise distribution are the papers'.

Larger blocks are slower (more of a product is thrown away) and shorter ones know fewer words of chance, which costs
skip-gram its rare words; each model has the shortest that serves it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NO_WORD = -1  # fills up a piece of text


class WordVectors(nn.Module):
    """What both models have: a vector of each word as itself (`table`) and one as its neighbours' neighbour.

    counts: int64 (V,), how often each word occurs in the training text.
    sample: words of a larger share of the text are left out at random, the more the larger (0: none).
    """

    block: int  # words of a block, and its words of chance

    def __init__(self, counts: Tensor, width: int, window: int, negatives: int, sample: float) -> None:
        super().__init__()
        share_V = counts.double() / counts.sum()
        kept_V = (sample / share_V).sqrt() + sample / share_V if sample else torch.ones_like(share_V)
        noise_V = counts.double() ** 0.75
        self.window, self.negatives = window, negatives
        self.table = nn.Parameter((torch.rand(len(counts), width) - 0.5) / width)
        self.context = nn.Parameter((torch.rand(len(counts), width) - 0.5) / width)
        self.kept: Tensor
        self.noise: Tensor
        self.register_buffer("kept", kept_V.clamp(max=1).float(), persistent=False)
        self.register_buffer("noise", (noise_V.cumsum(0) / noise_V.sum()).float(), persistent=False)
        place, candidate = torch.arange(self.block), torch.arange(self.block + 2 * window)
        self.register_buffer("distance", (candidate - window - place[:, None]).abs(), persistent=False)

    def vectors(self) -> Tensor:
        """Return the words' vectors (V, D)."""
        return self.table

    def forward(self, words_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, a mean over the words that took part, and those words int64 (n,).

        words_NL: pieces of running text as ids, NO_WORD behind a piece's last word. What is drawn at random is the same
        each time in evaluation, so that its losses can be compared.
        """
        draw = None if self.training else torch.Generator(words_NL.device).manual_seed(0)
        words_n = self._subsampled(words_NL, draw)
        centre_MB, around_MC = blocks(words_n, self.block, self.window)
        reach_MB1 = torch.randint(1, self.window + 1, (*centre_MB.shape, 1), generator=draw, device=words_n.device)
        there = (centre_MB >= 0)[:, :, None] & (around_MC >= 0)[:, None]
        pairs_MBC = there & (self.distance > 0) & (self.distance <= reach_MB1)
        chance = torch.rand(len(centre_MB), self.block, generator=draw, device=words_n.device)
        noise_MS = torch.searchsorted(self.noise, chance).clamp_(max=len(self.noise) - 1)
        taken_n = words_n[words_n >= 0]
        loss = self.block_loss(centre_MB.clamp(min=0), around_MC.clamp(min=0), pairs_MBC.float(), noise_MS)
        return loss / max(len(taken_n), 1), taken_n

    def block_loss(self, centre_MB: Tensor, around_MC: Tensor, pairs_MBC: Tensor, noise_MS: Tensor) -> Tensor:
        """Return the sum of the loss over blocks.

        centre_MB, around_MC: the words of each block, and those with `window` more on both sides. pairs_MBC: 1 where
        two of them are neighbours. noise_MS: the words of chance.
        """
        raise NotImplementedError

    def _subsampled(self, words_NL: Tensor, draw: torch.Generator | None) -> Tensor:
        """Return what stays of the text as one row (n,), with `window` times NO_WORD between two pieces."""
        words_NL = F.pad(words_NL, (0, self.window), value=NO_WORD)
        chance_NL = torch.rand(words_NL.shape, generator=draw, device=words_NL.device)
        return words_NL[(chance_NL < self.kept[words_NL.clamp(min=0)]) | (words_NL < 0)]


class SkipGram(WordVectors):
    """Each word predicts every neighbour."""

    block = 32

    def block_loss(self, centre_MB: Tensor, around_MC: Tensor, pairs_MBC: Tensor, noise_MS: Tensor) -> Tensor:
        word_MBD = F.embedding(centre_MB, self.table)
        other_MED = F.embedding(torch.cat([around_MC, noise_MS], 1), self.context)
        score_MBE = word_MBD @ other_MED.transpose(1, 2)
        against_MB1 = pairs_MBC.sum(-1, keepdim=True) * (self.negatives / self.block)
        weight_MBE = torch.cat([pairs_MBC, against_MB1.expand(-1, -1, self.block)], 2)
        sign_E = torch.ones(score_MBE.shape[-1], device=score_MBE.device)
        sign_E[: around_MC.shape[1]] = -1
        return (F.softplus(score_MBE * sign_E) * weight_MBE).sum()


class Cbow(WordVectors):
    """The mean of a word's neighbours predicts the word."""

    block = 16

    def block_loss(self, centre_MB: Tensor, around_MC: Tensor, pairs_MBC: Tensor, noise_MS: Tensor) -> Tensor:
        count_MB1 = pairs_MBC.sum(-1, keepdim=True)
        mean_MBD = (pairs_MBC / count_MB1.clamp(min=1)) @ F.embedding(around_MC, self.table)
        right_MB1 = (mean_MBD * F.embedding(centre_MB, self.context)).sum(-1, keepdim=True)
        noise_MBS = mean_MBD @ F.embedding(noise_MS, self.context).transpose(1, 2)
        against_MB1 = F.softplus(noise_MBS).sum(-1, keepdim=True) * (self.negatives / self.block)
        return ((F.softplus(-right_MB1) + against_MB1) * (count_MB1 > 0)).sum()


def blocks(words_n: Tensor, block: int, window: int) -> tuple[Tensor, Tensor]:
    """Return the text in blocks (M, block), and each with `window` words more on both sides."""
    count = max(1, -(-len(words_n) // block))
    padded = F.pad(words_n, (window, window + count * block - len(words_n)), value=NO_WORD)
    around_MC = padded.unfold(0, block + 2 * window, block)
    return around_MC[:, window : window + block], around_MC


class NearestWords(nn.Module):
    """A table of vectors as a user asks it: a sum of words in, the words nearest to it out.

    words int64 (B, N) and their weights float32 (B, N) (0: a place not used) -> the `count` nearest other words int64
    (B, count), their cosines float32 (B, count), and the cosines of the words given float32 (B, N). The vectors are
    brought to length 1 first, those of a sum too (Mikolov, Yih and Zweig 2013).
    """

    def __init__(self, vectors_VD: Tensor, count: int) -> None:
        super().__init__()
        self.table = nn.Parameter(F.normalize(vectors_VD.detach().float(), dim=-1).to(vectors_VD.dtype))
        self.count = min(count, len(vectors_VD))

    def forward(self, words_BN: Tensor, weights_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows_BND = F.embedding(words_BN, self.table)
        sum_BD = (rows_BND * weights_BN[:, :, None].to(rows_BND.dtype)).sum(1)
        cosine_BV = F.linear(F.normalize(sum_BD, dim=-1), self.table).float()
        given_BN = cosine_BV.gather(1, words_BN)
        others_BV = cosine_BV.scatter(1, words_BN, -2.0)
        top = others_BV.topk(self.count, dim=-1)
        return top.indices, top.values, given_BN
