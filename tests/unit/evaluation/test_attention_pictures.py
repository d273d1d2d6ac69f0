"""What the report says a translator attends to is what its layers really weigh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.core.config import parse_config
from components.core.task import TrainedModel
from components.evaluation.pictures.translation import alignment_chart
from components.evaluation.pictures.translation import pictures as draw
from components.inference.tokenizers import BOS, EOS
from components.models import fast_ops, transformer
from components.tasks.translation import TASK

MODELS: dict[str, dict[str, Any]] = {
    "transformer": {"width": 16, "heads": 2, "ffn": 32, "encoder_layers": 2, "decoder_layers": 2},
    "rnn": {"cell": "lstm", "width": 8, "layers": 1},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("prepared") / "x"
    lines = {
        "en": "the small cat sees a dog .\nthe dog sees the small cat .\n",
        "ja": "小さい 猫 は 犬 を 見る 。\n犬 は 猫 を 見る 。\n",
    }
    for split in ("train", "dev", "test"):
        for language, text in lines.items():
            (raw / f"{split}.{language}").write_text(text, encoding="utf-8")
    data = TASK.Data(tokenizer="word", min_frequency=1)
    TASK.prepare(raw, out, {"reader": "parallel_text"}, data)
    return out


def trained(name: str, root: Path) -> TrainedModel:
    torch.manual_seed(1)
    config = parse_config(TASK.Model, {"architecture": name, **MODELS[name]}, "model")
    return TrainedModel(config, TASK.build_model(config, root).eval())


@pytest.mark.parametrize("name", MODELS)
def test_each_row_of_attention_sums_to_one_over_what_may_be_seen(name: str, prepared: Path) -> None:
    source, target = torch.tensor([[5, 6, EOS], [5, EOS, 0]]), torch.tensor([[BOS, 4, 5], [BOS, 4, 5]])
    maps = trained(name, prepared).module.attention_maps(source, target)  # type: ignore[operator]
    for kind, layers in maps.items():
        for weights in layers:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
            if kind in ("encoder", "source"):
                assert weights[1, ..., 2].max() < 1e-6  # padding
            if kind == "decoder":
                assert weights.triu(1).max() < 1e-6  # what is not written yet


def test_attention_maps_are_the_weights_the_forward_pass_uses(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        used.append(fast_ops.attention_weights(query, key, mask))
        return used[-1] @ value

    model = trained("transformer", prepared).module
    source, target = torch.tensor([[5, 6, 7, EOS]]), torch.tensor([[BOS, 4, 5]])
    maps = model.attention_maps(source, target)  # type: ignore[operator]
    monkeypatch.setattr(transformer, "attention", watched)
    model(source, target)
    in_order = [*maps["encoder"], *(w for pair in zip(maps["decoder"], maps["source"], strict=True) for w in pair)]
    for shown, weights in zip(in_order, used, strict=True):
        torch.testing.assert_close(shown, weights)


@pytest.mark.parametrize(("name", "figures"), [("transformer", 4), ("rnn", 1)])
def test_pictures_show_the_tokens_of_a_sentence_and_every_head(name: str, figures: int, prepared: Path) -> None:
    found = draw(None, TASK.dataset(prepared, "test"), trained(name, prepared))
    assert len(found) == figures
    for word in ("small", "犬", "&lt;/s&gt;"):
        assert f">{word}<" in found[0].body
    if name == "transformer":
        assert found[1].body.count('fill="var(--bubble)"') == 4  # two layers of two heads


def test_alignment_is_as_dark_as_its_weight_and_leaves_out_what_no_one_sees() -> None:
    chart = alignment_chart(["a", "b"], ["x"], np.array([[0.75, 0.001]]))
    assert re.findall(r'fill-opacity="([\d.]+)"', chart) == ["0.75"]
    assert "x → a: 75%" in chart
