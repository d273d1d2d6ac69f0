"""Networks over sounds: padding changes nothing, in torch or ONNX; WaveNet is causal, as far-sighted as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.core.task import TrainedModel, load_task
from components.export.precision import build_graphs
from components.inference.session import open_session
from components.models.log_mel import LogMel, mel_filters
from components.models.recurrent_stack import RecurrentStack
from components.models.wavenet import WaveNet, dilation_cycles
from components.tasks.sequence_classification import ModelConfig, _network

TASK = load_task("sequence_classification")
LENGTHS = (5000, 800, 2399, 3201)
NETWORKS: dict[str, dict[str, Any]] = {
    "rnn": {"architecture": "recurrent", "cell": "rnn", "bidirectional": True, "depth": 2},
    "lstm": {"architecture": "recurrent", "cell": "lstm", "bidirectional": True, "depth": 2},
    "gru": {"architecture": "recurrent", "cell": "gru", "bidirectional": True, "depth": 2},
    "wavenet": {"architecture": "wavenet", "layers": 4},
}


def network(name: str, rate: int = 8000) -> TrainedModel:
    torch.manual_seed(0)
    config = ModelConfig(**NETWORKS[name], width=20)
    return TrainedModel(config, _network(config, rate, classes=5).eval())


def sounds() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(-9000, 9000, (length,), generator=generator).to(torch.int16) for length in LENGTHS]


def batch(rows: list[Tensor], behind: int) -> tuple[Tensor, Tensor]:
    """Return the rows with `behind` in the padding."""
    samples = torch.full((len(rows), max(map(len, rows))), behind, dtype=torch.int16)
    for row, sound in zip(samples, rows, strict=True):
        row[: len(sound)] = sound
    return samples, torch.tensor([len(row) for row in rows])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_unlike_lengths_gives_what_each_row_gives_alone(name: str) -> None:
    model = network(name).module
    with torch.inference_mode():
        alone = torch.cat([model(*batch([sound], 0)) for sound in sounds()])
        for behind in (0, 12345):
            together = model(*batch(sounds(), behind))
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert alone.std(0).max() > 1e-4, "rows must differ, or the test would see nothing"


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_graph_gives_each_row_of_unlike_lengths_what_torch_gives_it_alone(name: str) -> None:
    model = network(name)
    graph = build_graphs(TASK, model, TASK.Options(), "fp32")["classify"]
    session = open_session(graph.SerializeToString())
    samples, lengths = batch(sounds(), 777)
    _, probability = session.run(None, {"samples": samples.numpy(), "length": lengths.numpy()})
    with torch.inference_mode():
        alone = torch.cat([model.module(*batch([sound], 0)).softmax(-1) for sound in sounds()])
    np.testing.assert_allclose(probability, alone, atol=1e-5)
    kinds = [node.op_type for node in graph.graph.node]
    weights = {initializer.name for initializer in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type == name.upper()]
    assert all({*node.input[1:4]} <= weights for node in layers), "ready for the operator, and for int8"
    assert kinds.count(name.upper()) == 2, "one operator a layer, both directions in it, nothing unrolled"


def test_lstm_has_four_thirds_of_the_weights_of_a_gru_and_rnn_a_third() -> None:
    counts = {
        cell: sum(p.numel() for p in RecurrentStack(cell, 40, 96, 1, bidirectional=False, dropout=0.0).parameters())
        for cell in ("rnn", "gru", "lstm")
    }
    assert counts["lstm"] * 3 == counts["gru"] * 4
    assert counts["gru"] == 3 * counts["rnn"]


def test_a_frame_begins_every_hop_and_loudness_does_not_count() -> None:
    features = LogMel(8000, 40)
    sound = sounds()[0][None]
    length = torch.tensor([sound.shape[1]])
    found = features(sound, length)
    assert found.shape == (1, int(features.frames(length)), 40)
    assert found.shape[1] == sound.shape[1] // 80
    torch.testing.assert_close(features(sound // 4, length), found, atol=0.02, rtol=0)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_frames_and_filters_last_as_long_at_every_rate(rate: int) -> None:
    features, second = LogMel(rate, 40), torch.ones(1, rate, dtype=torch.int16)
    assert features(second, torch.tensor([rate])).shape == (1, int(features.frames(torch.tensor([rate]))), 40)
    assert int(features.frames(torch.tensor([rate]))) == 100
    assert features.window / rate == pytest.approx(0.032, rel=0.01)
    filters = network("wavenet", rate).module.filters
    assert filters.kernel_size[0] / rate == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("name", ["gru", "wavenet"])
def test_the_graph_of_another_rate_gives_what_torch_does(name: str) -> None:
    model = network(name, 16000)
    session = open_session(build_graphs(TASK, model, TASK.Options(), "fp32")["classify"].SerializeToString())
    samples, lengths = batch(sounds(), 0)
    _, probability = session.run(None, {"samples": samples.numpy(), "length": lengths.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(probability, model.module(samples, lengths).softmax(-1), atol=1e-5)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    features = LogMel(8000, 40)
    for pitch in (200, 1000, 3000):
        tone = (9000 * torch.sin(torch.arange(2400) / 8000 * 2 * torch.pi * pitch)).to(torch.int16)[None]
        band = int(features(tone, torch.tensor([2400]))[0, 10].argmax())
        centre = float(
            (mel_filters(8000, 40)[band] * torch.linspace(0, 4000, 129)).sum() / mel_filters(8000, 40)[band].sum()
        )
        assert abs(centre - pitch) < 0.1 * pitch + 35


def test_every_band_hears_something() -> None:
    assert (mel_filters(8000, 40).sum(1) > 0.5).all()


def test_wavenet_hears_its_receptive_field_and_nothing_of_the_future() -> None:
    torch.manual_seed(0)
    wavenet = WaveNet(width=6, skip=4, dilations=dilation_cycles(2, 3))
    assert wavenet.receptive_field == 1 + 2 * (1 + 2 + 4)
    x = torch.randn(1, 40, 6, requires_grad=True)
    wavenet(x)[0, 25].sum().backward()
    (heard,) = x.grad[0].abs().sum(-1).nonzero(as_tuple=True)
    assert int(heard.min()) == 25 - wavenet.receptive_field + 1
    assert int(heard.max()) == 25
