"""Pruning removes whole units: the smaller network equals the larger one with those units silenced."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.compression.prune import Prune, shrink
from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.task import TrainedModel
from components.models.multiply_adds import multiply_adds
from components.models.transformer import Transformer
from components.tasks.translation import ModelConfig


def context() -> Any:
    def build_model(config: ModelConfig, _root: object) -> Transformer:
        names = ("width", "head_width", "heads", "ffn", "decoder_heads", "source_heads", "decoder_ffn", "dropout")
        full = config.explicit()
        return Transformer(30, 40, **{n: getattr(full, n) for n in names}, positions="add", pad=0)

    return SimpleNamespace(task=SimpleNamespace(Model=ModelConfig, build_model=build_model), root=None)


def trained() -> TrainedModel:
    torch.manual_seed(0)
    config = ModelConfig(architecture="transformer", width=32, heads=4, ffn=24, encoder_layers=2, decoder_layers=1)
    return TrainedModel(config, context().task.build_model(config, None).eval())


def test_shrunk_model_equals_the_silenced_one() -> None:
    model = trained()
    groups = model.module.pruning_groups()
    kept = [list(range(group.units))[::2] for group in groups]
    small = shrink(model, groups, kept, context())
    with torch.no_grad():  # a unit without output weights says nothing
        parameters = dict(model.module.named_parameters())
        for group, rows in zip(groups, kept, strict=True):
            gone = [unit for unit in range(group.units) if unit not in rows]
            out = next(m for m in group.members if m.axis == 1)
            columns = parameters[out.parameter].view(parameters[out.parameter].shape[0], group.units, -1)
            columns[:, gone] = 0
        source, target = torch.randint(4, 30, (3, 5)), torch.randint(4, 40, (3, 6))
        torch.testing.assert_close(
            small.module.eval()(source, target), model.module(source, target), rtol=1e-4, atol=1e-4
        )
    assert small.parameters() < model.parameters()
    sentence = torch.full((1, 16), 5)
    assert multiply_adds(small.module, sentence, sentence) < 0.7 * multiply_adds(model.module, sentence, sentence)


def test_a_fraction_that_no_layer_may_lose_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0.5 of each layer are not 0.6 of all channels"):
        parse_config(Prune, {"remove": {"channels": 0.6}, "max_ratio": 0.5}, "prune")
    with pytest.raises(ConfigError, match=r"max_ratio.*scope layer takes the same fraction of each"):
        parse_config(Prune, {"remove": {"channels": 0.5}, "max_ratio": 0.6, "scope": "layer"}, "prune")
    assert parse_config(Prune, {"remove": {"ffn": 3.5}, "criterion": "threshold"}, "prune").max_ratio == 1
