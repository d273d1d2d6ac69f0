"""Transformer encoder-decoder (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), output tied to its embedding.

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


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself; heads keep their width when some of them are pruned away.

    Query, key and value are one product: three small ones cost more than one of three times the size.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query_key_value = nn.Linear(width, 3 * heads * head_width)
        self.output = nn.Linear(heads * head_width, width)
        for part in self.query_key_value.weight.chunk(3):
            nn.init.xavier_uniform_(part)

    def forward(self, x_BLW: Tensor, mask: Tensor, place_BN: Tensor | None = None) -> Tensor:
        """Return (B, L, width), or (B, N, width) at some places alone."""
        query, key, value = self._query_key_value(x_BLW)
        if place_BN is not None:
            query = query.gather(2, place_BN[:, None, :, None].expand(-1, self.heads, -1, self.head_width))
        return self.output(attention(query, key, value, mask).transpose(1, 2).flatten(2))

    def weights(self, x_BLW: Tensor, mask: Tensor) -> Tensor:
        """Return what `forward` attends to, (B, H, L, L): each row sums to one."""
        query, key, _ = self._query_key_value(x_BLW)
        return attention_weights(query, key, mask)

    def _query_key_value(self, x_BLW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.query_key_value(x_BLW).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def advance(self, x_R1W: Tensor, cache: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (R, 1, width) of one new position, and the grown cache: keys and values, each (R, H, T, D).

        Cached keys carry the scale: it is applied once a position, not once a step.
        """
        query, key, value = self.query_key_value(x_R1W).chunk(3, -1)
        rows, heads, width = x_R1W.shape[0], self.heads, self.head_width
        keys = torch.cat([cache[0], (key * width**-0.5).view(rows, heads, 1, width)], 2)
        values = torch.cat([cache[1], value.view(rows, heads, 1, width)], 2)
        weights = (query.view(rows, heads, 1, width) @ keys.transpose(2, 3)).softmax(-1)
        return self.output((weights @ values).reshape(x_R1W.shape[0], 1, -1)), (keys, values)


class SourceAttention(nn.Module):
    """Multi-head attention of the target over the source."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key_value = nn.Linear(width, 2 * heads * head_width)
        self.output = nn.Linear(heads * head_width, width)

    def keys_and_values(self, memory_BSW: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (B, H, S, D)."""
        parts = self.key_value(memory_BSW).unflatten(-1, (2, self.heads, self.head_width))
        key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return key, value

    def forward(self, x_BQW: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, mask: Tensor) -> Tensor:
        """Return (B, Q, width)."""
        mixed = attention(self._query(x_BQW), key_BHSD, value_BHSD, mask)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def weights(self, x_BQW: Tensor, key_BHSD: Tensor, mask: Tensor) -> Tensor:
        """Return what `forward` attends to, (B, H, Q, S): each row sums to one."""
        return attention_weights(self._query(x_BQW), key_BHSD, mask)

    def _query(self, x_BQW: Tensor) -> Tensor:
        return self.query(x_BQW).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)

    def advance(self, x_R1W: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, mask: Tensor, beams: int) -> Tensor:
        """Return (R, 1, width), for keys that carry the scale as in SelfAttention.advance.

        The beams of a source are an axis of queries, so nothing of the source is copied; R = B * beams.
        """
        sources, heads, width = value_BHSD.shape[0], self.heads, self.head_width
        if beams == 1:  # a lone query's heads lie in place already
            query = self.query(x_R1W).view(sources, heads, 1, width)
        else:
            query = self.query(x_R1W).view(sources, beams, heads, width).transpose(1, 2)
        mixed = (query @ key_BHSD.transpose(2, 3) + mask).softmax(-1) @ value_BHSD
        return self.output((mixed if beams == 1 else mixed.transpose(1, 2)).reshape(x_R1W.shape[0], 1, -1))


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
        self.attention_norm, self.attention = nn.LayerNorm(width), SelfAttention(width, heads, head_width)
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, ffn, probability)
        self.dropout = probability

    def forward(self, x: Tensor, mask: Tensor, place_BN: Tensor | None = None) -> Tensor:
        """Return (B, L, width), or (B, N, width) at some places alone: the others are only attended to."""
        seen = self.attention(self.attention_norm(x), mask, place_BN)
        if place_BN is not None:
            x = x.gather(1, place_BN[:, :, None].expand(-1, -1, x.shape[-1]))
        x = x + dropout(seen, self.dropout, self.training)
        return x + dropout(self.ffn(self.ffn_norm(x)), self.dropout, self.training)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention over the source, feed-forward."""

    def __init__(
        self, width: int, heads: int, source_heads: int, head_width: int, ffn: int, probability: float
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), SelfAttention(width, heads, head_width)
        self.source_norm, self.source_attention = nn.LayerNorm(width), SourceAttention(width, source_heads, head_width)
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, ffn, probability)
        self.dropout = probability

    def forward(self, x: Tensor, memory: Tensor, source_mask: Tensor, causal_mask: Tensor) -> Tensor:
        x = x + dropout(self.attention(self.attention_norm(x), causal_mask), self.dropout, self.training)
        keys_and_values = self.source_attention.keys_and_values(memory)
        source = self.source_attention(self.source_norm(x), *keys_and_values, source_mask)
        x = x + dropout(source, self.dropout, self.training)
        return x + dropout(self.ffn(self.ffn_norm(x)), self.dropout, self.training)

    def advance(
        self,
        x_R1W: Tensor,
        source: tuple[Tensor, Tensor],
        source_mask: Tensor,
        cache: tuple[Tensor, Tensor],
        beams: int,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the next (R, 1, width) and the grown cache; R rows are the hypotheses of B sources, B by B."""
        mixed, cache = self.attention.advance(self.attention_norm(x_R1W), cache)
        x = x_R1W + mixed
        x = x + self.source_attention.advance(self.source_norm(x), *source, source_mask, beams)
        return x + self.ffn(self.ffn_norm(x)), cache


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
            if parameter.dim() == 2 and "embedding" not in name and "query_key_value" not in name:
                nn.init.xavier_uniform_(parameter)

    def encode(self, source_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory (B, S, width) and its additive mask (B, 1, 1, S)."""
        mask = self._source_mask(source_BS)
        x = dropout(self.source_embedding(source_BS), self.dropout, self.training)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def _source_mask(self, source_BS: Tensor) -> Tensor:
        return (source_BS == self.pad)[:, None, None, :].to(self.encoder_norm.weight.dtype) * MASKED

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Return logits (B, T, target vocabulary) of each next token, given the tokens before it."""
        memory, mask = self.encode(source_BS)
        causal = self.causal_mask[: target_BT.shape[1], : target_BT.shape[1]]
        x = dropout(self.target_embedding(target_BT), self.dropout, self.training)
        for layer in self.decoder:
            x = layer(x, memory, mask, causal)
        flat = self.decoder_norm(x).flatten(0, 1)
        return self.target_embedding.logits(flat, self.output_bias).unflatten(0, target_BT.shape)

    def attention_maps(self, source_BS: Tensor, target_BT: Tensor) -> dict[str, list[Tensor]]:
        """Return what every layer attends to: "encoder" (B, H, S, S), "decoder" (B, H, T, T), "source" (B, H, T, S)."""
        encoder, decoder, source = [], [], []
        mask, x = self._source_mask(source_BS), self.source_embedding(source_BS)
        for layer in self.encoder:
            encoder.append(layer.attention.weights(layer.attention_norm(x), mask))
            x = layer(x, mask)
        memory, causal = self.encoder_norm(x), self.causal_mask[: target_BT.shape[1], : target_BT.shape[1]]
        x = self.target_embedding(target_BT)
        for layer in self.decoder:
            normed = layer.attention_norm(x)
            decoder.append(layer.attention.weights(normed, causal))
            key, _ = layer.source_attention.keys_and_values(memory)
            asking = layer.source_norm(x + layer.attention(normed, causal))
            source.append(layer.source_attention.weights(asking, key, mask))
            x = layer(x, memory, mask, causal)
        return {"encoder": encoder, "decoder": decoder, "source": source}

    # ---- step by step (components/models/decoding.py) ----

    def constant_names(self) -> list[str]:
        """Names of what every step reads: the source mask, and keys and values of the source a layer."""
        return ["source_mask", *(f"source_{kind}_{i}" for i in range(len(self.decoder)) for kind in ("key", "value"))]

    def state_names(self) -> list[str]:
        """Names of what grows from step to step: cached keys and values a layer."""
        return [f"cache_{kind}_{i}" for i in range(len(self.decoder)) for kind in ("key", "value")]

    def growing(self) -> dict[str, int]:
        """The axis along which constants follow the source's length, and states the number of steps."""
        names = (*self.constant_names(), *self.state_names())
        return {name: 3 if name == "source_mask" else 2 for name in names}

    def begin(self, source_BS: Tensor, beams: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return constants of B rows and empty states of B * beams rows."""
        memory, mask = self.encode(source_BS)
        constants, state = [mask], []
        for layer in self.decoder:
            key, value = layer.source_attention.keys_and_values(memory)
            constants += [(key * key.shape[-1] ** -0.5).contiguous(), value.contiguous()]
            heads: Any = layer.attention.heads
            state += [memory.new_zeros(source_BS.shape[0] * beams, heads, 0, value.shape[-1]) for _ in range(2)]
        return constants, state

    def advance(
        self, token_R1: Tensor, position: Tensor, constants: list[Tensor], state: list[Tensor], beams: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits (R, target vocabulary) of the token after `token`, and the new state; R = B * beams."""
        x, new_state = self.target_embedding.at(token_R1, position), []
        for i, layer in enumerate(self.decoder):
            source = (constants[1 + 2 * i], constants[2 + 2 * i])
            x, cache = layer.advance(x, source, constants[0], (state[2 * i], state[2 * i + 1]), beams)
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
    projections = {"query": 1, "key_value": 2} if "source" in path else {"query_key_value": 3}
    members = (
        *(Member(f"{path}.{linear}.{part}", 0, n) for linear, n in projections.items() for part in ("weight", "bias")),
        Member(f"{path}.output.weight", 1),
    )
    return PruningGroup("heads", key, (layer,), int(heads), members)


def _ffn_group(key: str, layer: int, path: str, neurons: Any) -> PruningGroup:
    members = (Member(f"{path}.up.weight", 0), Member(f"{path}.up.bias", 0), Member(f"{path}.down.weight", 1))
    return PruningGroup("ffn", key, (layer,), int(neurons), members)
