"""The same Transformer weights as a CTranslate2 model: the named baseline of the decode benchmark.

CTranslate2's model specification: https://opennmt.net/CTranslate2/python/ctranslate2.specs.TransformerSpec.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.models.positions import MAX_LENGTH, sinusoids
from components.models.transformer import Transformer


def write_ctranslate2(model: Transformer, source_tokens: list[str], target_tokens: list[str], out: Path) -> None:
    """Write `model` (every layer with the same number of heads, positions added) as int8 into the new folder `out`."""
    from ctranslate2.specs import common_spec, transformer_spec

    layers, heads = (len(model.encoder), len(model.decoder)), model.encoder[0].attention.heads
    relu = common_spec.Activation.RELU
    spec = transformer_spec.TransformerSpec.from_config(layers, heads, pre_norm=True, activation=relu)
    source = spec.encoder.embeddings[0]
    source.weight = _array(model.source_embedding.table.weight)
    spec.decoder.embeddings.weight = _array(model.target_embedding.table.weight)
    spec.decoder.projection.weight = _array(model.target_embedding.table.weight)
    spec.decoder.projection.bias = _array(model.output_bias)
    positions = sinusoids(torch.arange(MAX_LENGTH), model.source_embedding.position_width)
    for stack, norm in ((spec.encoder, model.encoder_norm), (spec.decoder, model.decoder_norm)):
        stack.scale_embeddings = True
        stack.position_encodings.encodings = _array(positions)
        _norm(stack.layer_norm, norm)
    for layer_spec, layer in zip(spec.encoder.layer, model.encoder, strict=True):
        _self_attention(layer_spec.self_attention, layer)
        _feed_forward(layer_spec.ffn, layer)
    for layer_spec, layer in zip(spec.decoder.layer, model.decoder, strict=True):
        _self_attention(layer_spec.self_attention, layer)
        _norm(layer_spec.attention.layer_norm, layer.source_norm)
        for linear, module in zip(layer_spec.attention.linear, _parts(layer.source_attention), strict=True):
            _linear(linear, module)
        _feed_forward(layer_spec.ffn, layer)
    spec.register_source_vocabulary(source_tokens)
    spec.register_target_vocabulary(target_tokens)
    spec.config.add_source_eos = spec.config.add_source_bos = False
    spec.config.decoder_start_token = spec.config.bos_token = "<s>"
    spec.config.eos_token, spec.config.unk_token = "</s>", "<unk>"
    spec.validate()
    spec.optimize(quantization="int8")
    out.mkdir(parents=True)
    spec.save(str(out))


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().float().numpy().copy()
    return array


def _linear(spec: Any, module: Any) -> None:
    spec.weight, spec.bias = _array(module.weight), _array(module.bias)


def _norm(spec: Any, module: Any) -> None:
    spec.gamma, spec.beta = _array(module.weight), _array(module.bias)


def _parts(attention: Any) -> tuple[Any, Any, Any]:
    return attention.query, attention.key_value, attention.output


def _self_attention(spec: Any, layer: Any) -> None:
    _norm(spec.layer_norm, layer.attention_norm)
    _linear(spec.linear[0], layer.attention.query_key_value)
    _linear(spec.linear[1], layer.attention.output)


def _feed_forward(spec: Any, layer: Any) -> None:
    _norm(spec.layer_norm, layer.ffn_norm)
    _linear(spec.linear_0, layer.ffn.up)
    _linear(spec.linear_1, layer.ffn.down)
