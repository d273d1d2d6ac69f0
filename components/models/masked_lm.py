"""Masked language model (Devlin et al. 2019): a Transformer encoder that reads both sides of a blank.

Pre-norm layers, output tied to the embedding, no segments and no pooled vector. The output product, the largest of all,
is computed at the blanks alone, and so is what the last layer makes of its attention: nobody reads it elsewhere.
A product over the nearest words goes ahead of the layers, as convolutions do in ConvBERT (Jiang et al. 2020) and Primer
(So et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.models.fast_ops import MASKED, dropout
from components.models.positions import TokenEmbedding
from components.models.transformer import EncoderLayer


class Neighbours(nn.Module):
    """Each word with what stands up to `reach` places beside it, by one product.

    Attention has to find out first which place is the next one; until then, for a thousand steps, a model knows no more
    than how often words occur. Shown the neighbours, it begins with them: a fifth of the steps lead as far.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.mix = nn.Linear((2 * reach + 1) * width, width)
        nn.init.normal_(self.mix.weight, std=self.mix.in_features**-0.5)

    def forward(self, x_BLW: Tensor, there_BL1: Tensor) -> Tensor:
        """Return (B, L, width). there: 1, and 0 where padding stands, which nobody is to see."""
        around = nn.functional.pad(x_BLW * there_BL1, (0, 0, self.reach, self.reach))
        shifted = [around[:, place : place + x_BLW.shape[1]] for place in range(2 * self.reach + 1)]
        return x_BLW + self.mix(torch.cat(shifted, -1))


class MaskedLM(nn.Module):
    """Word ids with blanks among them -> scores of every word at each blank.

    unigram: float32 (V,), how often each word occurs; the output starts from there instead of learning it first.
    """

    def __init__(
        self, unigram_V: Tensor, *, width: int, heads: int, ffn: int, layers: int, reach: int, dropout: float, pad: int
    ) -> None:
        super().__init__()
        self.vocabulary, self.pad, self.dropout = len(unigram_V), pad, dropout
        self.embedding = TokenEmbedding(len(unigram_V), width, "add", pad)
        self.neighbours = Neighbours(width, reach) if reach else None
        self.layers = nn.ModuleList(EncoderLayer(width, heads, width // heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output_bias = nn.Parameter(unigram_V.clamp(min=1e-7).log())

    def forward(self, ids_BL: Tensor, blank_BN: Tensor) -> Tensor:
        """Return logits (B * N, vocabulary) of what stands at the places `blank`."""
        padding_BL = (ids_BL == self.pad).to(self.norm.weight.dtype)
        mask = padding_BL[:, None, None, :] * MASKED
        x_BLW = self.embedding(ids_BL)
        if self.neighbours is not None:
            x_BLW = self.neighbours(x_BLW, 1 - padding_BL[:, :, None])
        x_BLW = dropout(x_BLW, self.dropout, self.training)
        *layers, last = self.layers
        for layer in layers:
            x_BLW = layer(x_BLW, mask)
        x_BNW = last(x_BLW, mask, blank_BN)
        return self.embedding.logits(self.norm(x_BNW).flatten(0, 1), self.output_bias)
