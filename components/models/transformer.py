"""Transformer encoder-decoder (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), decoder embedding tied to the output.

Heads and feed-forward neurons may differ from layer to layer, so that a pruned model is the same class with smaller
numbers. One forward pass serves training; `begin` and `advance` decode step by step with cached keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.models.fast_ops import MASKED, attention, attention_weights, dropout
from components.models.positions import MAX_LENGTH, Mode, TokenEmbedding
from components.models.pruning_groups import Member, PruningGroup


class Attention(nn.Module):
    """Multi-head attention whose heads keep their width when some of them are pruned away."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.query = nn.Linear(width, inner)
        self.key_value = nn.Linear(width, 2 * inner)
        self.output = nn.Linear(inner, width)

    def split_heads(self, x_BLI: Tensor) -> Tensor:
        """Return (B, heads, L, head_width)."""
        return x_BLI.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)

    def project_memory(self, memory_BLW: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (B, heads, L, head_width)."""
        key, value = self.key_value(memory_BLW).chunk(2, -1)
        return self.split_heads(key), self.split_heads(value)

    def attend(self, x_BQW: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, Q, width): x's queries over the given keys and values."""
        mixed = attention(self.split_heads(self.query(x_BQW)), key, value, mask)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def weights(self, x_BQW: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention matrix (B, heads, Q, K), for pictures."""
        return attention_weights(self.split_heads(self.query(x_BQW)), key, mask)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, width: int, hidden: int, dropout_probability: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = dropout_probability

    def forward(self, x: Tensor) -> Tensor:
        return self.down(dropout(self.up(x).relu(), self.dropout, self.training))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, head_width: int, ffn: int, probability: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads, head_width)
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, ffn, probability)
        self.dropout = probability

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        mixed = self.attention.attend(normed, *self.attention.project_memory(normed), mask)
        x = x + dropout(mixed, self.dropout, self.training)
        return x + dropout(self.ffn(self.ffn_norm(x)), self.dropout, self.training)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention over the source, feed-forward."""

    def __init__(
        self, width: int, heads: int, source_heads: int, head_width: int, ffn: int, probability: float
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads, head_width)
        self.source_norm, self.source_attention = nn.LayerNorm(width), Attention(width, source_heads, head_width)
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, ffn, probability)
        self.dropout = probability

    def forward(self, x: Tensor, memory: Tensor, source_mask: Tensor, causal_mask: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        mixed = self.attention.attend(normed, *self.attention.project_memory(normed), causal_mask)
        x = x + dropout(mixed, self.dropout, self.training)
        source = self.source_attention.attend(
            self.source_norm(x), *self.source_attention.project_memory(memory), source_mask
        )
        x = x + dropout(source, self.dropout, self.training)
        return x + dropout(self.ffn(self.ffn_norm(x)), self.dropout, self.training)

    def advance(
        self, x_R1W: Tensor, source: tuple[Tensor, Tensor], source_mask: Tensor, cache: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the next (R, 1, width) and the grown cache; R rows are `R / B` hypotheses of each of B sources."""
        normed = self.attention_norm(x_R1W)
        key, value = self.attention.project_memory(normed)
        key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        x = x_R1W + self.attention.attend(normed, key, value, None)
        # the hypotheses of one source are one more axis of queries, so its keys and values are never copied
        queries = self.source_norm(x).reshape(source[0].shape[0], -1, x.shape[-1])
        x = x + self.source_attention.attend(queries, *source, source_mask).reshape(x.shape)
        return x + self.ffn(self.ffn_norm(x)), (key, value)


class Transformer(nn.Module):
    """Encoder-decoder over token ids.

    heads, ffn (encoder), decoder_heads, source_heads, decoder_ffn: one number a layer.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        width: int,
        head_width: int,
        heads: tuple[int, ...],
        ffn: tuple[int, ...],
        decoder_heads: tuple[int, ...],
        source_heads: tuple[int, ...],
        decoder_ffn: tuple[int, ...],
        dropout: float,
        positions: Mode,
        pad: int,
    ) -> None:
        super().__init__()
        self.pad, self.dropout = pad, dropout
        self.source_embedding = TokenEmbedding(source_vocabulary, width, positions, pad)
        self.target_embedding = TokenEmbedding(target_vocabulary, width, positions, pad)
        self.encoder = nn.ModuleList(
            EncoderLayer(width, count, head_width, hidden, dropout) for count, hidden in zip(heads, ffn, strict=True)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(width, count, source, head_width, hidden, dropout)
            for count, source, hidden in zip(decoder_heads, source_heads, decoder_ffn, strict=True)
        )
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.output_bias = nn.Parameter(torch.zeros(target_vocabulary))
        causal = torch.full((MAX_LENGTH, MAX_LENGTH), MASKED).triu(1)
        self.causal_mask: Tensor
        self.register_buffer("causal_mask", causal, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "embedding" not in name:
                nn.init.xavier_uniform_(parameter)

    def encode(self, source_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory (B, S, width) and its additive mask (B, 1, 1, S)."""
        mask = (source_BS == self.pad)[:, None, None, :].to(self.encoder_norm.weight.dtype) * MASKED
        x = dropout(self.source_embedding(source_BS), self.dropout, self.training)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Return logits (B, T, target vocabulary) of each next token, given the tokens before it."""
        memory, mask = self.encode(source_BS)
        causal = self.causal_mask[: target_BT.shape[1], : target_BT.shape[1]]
        x = dropout(self.target_embedding(target_BT), self.dropout, self.training)
        for layer in self.decoder:
            x = layer(x, memory, mask, causal)
        flat = self.decoder_norm(x).flatten(0, 1)
        return self.target_embedding.logits(flat, self.output_bias).unflatten(0, target_BT.shape)

    # ---- step by step (components/models/decoding.py) ----

    def constant_names(self) -> list[str]:
        """Names of what every step reads: the source mask, and keys and values of the source a layer."""
        return ["source_mask", *(f"source_{kind}_{i}" for i in range(len(self.decoder)) for kind in ("key", "value"))]

    def state_names(self) -> list[str]:
        """Names of what grows from step to step: cached keys and values a layer."""
        return [f"cache_{kind}_{i}" for i in range(len(self.decoder)) for kind in ("key", "value")]

    def growing(self) -> dict[str, int]:
        """The axis along which constants follow the source's length, and states the number of steps."""
        return {name: 3 if name == "source_mask" else 2 for name in (*self.constant_names(), *self.state_names())}

    def begin(self, source_BS: Tensor, beams: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return constants of B rows and empty states of B * beams rows."""
        memory, mask = self.encode(source_BS)
        constants, state = [mask], []
        for layer in self.decoder:
            constants += layer.source_attention.project_memory(memory)
            attention = layer.attention
            empty = memory.new_zeros(source_BS.shape[0] * beams, attention.heads, 0, attention.head_width)
            state += [empty, empty.clone()]
        return constants, state

    def advance(
        self, token_R1: Tensor, position: Tensor, constants: list[Tensor], state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits (R, target vocabulary) of the token after `token`, and the new state."""
        x, new_state = self.target_embedding.at(token_R1, position), []
        for i, layer in enumerate(self.decoder):
            source = (constants[1 + 2 * i], constants[2 + 2 * i])
            x, cache = layer.advance(x, source, constants[0], (state[2 * i], state[2 * i + 1]))
            new_state += cache
        return self.target_embedding.logits(self.decoder_norm(x)[:, 0], self.output_bias), new_state

    def pruning_groups(self) -> list[PruningGroup]:
        """Return the heads and feed-forward neurons that may be removed, and every weight that goes with them."""
        groups = []
        for i, layer in enumerate(self.encoder):
            groups.append(_head_group("heads", i, f"encoder.{i}.attention", layer.attention.heads))
            groups.append(_ffn_group("ffn", i, f"encoder.{i}.ffn", layer.ffn.up.out_features))
        for i, layer in enumerate(self.decoder):
            groups.append(_head_group("decoder_heads", i, f"decoder.{i}.attention", layer.attention.heads))
            groups.append(_head_group("source_heads", i, f"decoder.{i}.source_attention", layer.source_attention.heads))
            groups.append(_ffn_group("decoder_ffn", i, f"decoder.{i}.ffn", layer.ffn.up.out_features))
        return groups


def _head_group(key: str, layer: int, path: str, heads: Any) -> PruningGroup:
    members = (
        *(Member(f"{path}.query.{part}", 0) for part in ("weight", "bias")),
        *(Member(f"{path}.key_value.{part}", 0, repeats=2) for part in ("weight", "bias")),
        Member(f"{path}.output.weight", 1),
    )
    return PruningGroup("heads", key, layer, int(heads), members)


def _ffn_group(key: str, layer: int, path: str, neurons: Any) -> PruningGroup:
    members = (Member(f"{path}.up.weight", 0), Member(f"{path}.up.bias", 0), Member(f"{path}.down.weight", 1))
    return PruningGroup("ffn", key, layer, int(neurons), members)
