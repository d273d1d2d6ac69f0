"""Masked language model (Devlin et al. 2019): a Transformer encoder that reads both sides of a blank.

Pre-norm layers, output tied to the embedding, no segments and no pooled vector. The output product, the largest of all,
is computed at the blanks alone, and so is what the last layer makes of its attention: nobody reads it elsewhere.
"""

from __future__ import annotations

from torch import Tensor, nn

from components.models.fast_ops import MASKED, dropout
from components.models.positions import TokenEmbedding
from components.models.transformer import EncoderLayer


class MaskedLM(nn.Module):
    """Word ids with blanks among them -> scores of every word at each blank.

    unigram: float32 (V,), how often each word occurs; the output starts from there instead of learning it first.
    """

    def __init__(
        self, unigram_V: Tensor, *, width: int, heads: int, ffn: int, layers: int, dropout: float, pad: int
    ) -> None:
        super().__init__()
        self.vocabulary, self.pad, self.dropout = len(unigram_V), pad, dropout
        self.embedding = TokenEmbedding(len(unigram_V), width, "add", pad)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, width // heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output_bias = nn.Parameter(unigram_V.clamp(min=1e-7).log())

    def forward(self, ids_BL: Tensor, blank_BN: Tensor) -> Tensor:
        """Return logits (B * N, vocabulary) of what stands at the places `blank`; L is at most positions.MAX_LENGTH."""
        mask = (ids_BL == self.pad)[:, None, None, :].to(self.norm.weight.dtype) * MASKED
        x_BLW = dropout(self.embedding(ids_BL), self.dropout, self.training)
        *layers, last = self.layers
        for layer in layers:
            x_BLW = layer(x_BLW, mask)
        x_BNW = last.at(blank_BN, x_BLW, mask)
        return self.embedding.logits(self.norm(x_BNW).flatten(0, 1), self.output_bias)
