from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from components.core.errors import ConfigError
from components.models.dilated_forecaster import DilatedForecaster
from components.models.forecaster import Forecaster
from components.models.segment_rnn import SegmentRNN, TanhRNN
from components.tasks.forecasting import ModelConfig, _network

MEAN, DEVIATION = [5.0, -3.0], [2.0, 0.5]


def forecaster(kind: str) -> Forecaster:
    torch.manual_seed(0)
    network = DilatedForecaster(4, 3, 6, 2, 0.0) if kind == "wavenet" else SegmentRNN(kind, 8, 3, 6, 2, 0.0)
    return Forecaster(network, MEAN, DEVIATION).eval()


KINDS = pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "wavenet"])


@KINDS
def test_forecast_rises_with_the_level_of_what_was_seen(kind: str) -> None:
    model, past_BTC = forecaster(kind), torch.randn(3, 12, 2)
    raised = model(past_BTC + torch.tensor(DEVIATION) * 7)
    torch.testing.assert_close(raised, model(past_BTC) + 7, rtol=0, atol=1e-4)


@KINDS
def test_windows_of_a_batch_do_not_mix(kind: str) -> None:
    model, past_BTC = forecaster(kind), torch.randn(4, 12, 2)
    torch.testing.assert_close(model(past_BTC)[1:2], model(past_BTC[1:2]))


@KINDS
def test_channels_do_not_mix(kind: str) -> None:
    model, past_BTC = forecaster(kind), torch.randn(2, 12, 2)
    other = past_BTC.clone()
    other[..., 1] = torch.randn(2, 12)
    torch.testing.assert_close(model(past_BTC)[..., 0], model(other)[..., 0])
    assert not torch.allclose(model(past_BTC)[..., 1], model(other)[..., 1])


@KINDS
def test_halved_weights_leave_the_datas_scale_whole(kind: str) -> None:
    model = forecaster(kind)
    halved, past_BTC = copy.deepcopy(model).half(), torch.randn(2, 12, 2)
    assert halved.mean.dtype == halved.deviation.dtype == torch.float32
    assert next(halved.parameters()).dtype == torch.float16
    torch.testing.assert_close(halved(past_BTC), model(past_BTC), rtol=0, atol=0.02)


def full_wavenet(network: DilatedForecaster, series_ST: Tensor) -> Tensor:
    """Return the forecast by dilated convolutions over every step, as the paper draws them."""
    x_SWT = network.input(series_ST[..., None]).transpose(1, 2)
    skip_SWT: Tensor = network.channel.repeat(len(series_ST) // len(network.channel), 1)[..., None]
    for i, (gate, skip) in enumerate(zip(network.gates, network.skips, strict=True)):
        kernel = gate.weight.unflatten(1, (2, -1)).transpose(1, 2)  # (outputs, inputs, 2 steps)
        both = F.conv1d(F.pad(x_SWT, (2**i, 0)), kernel, gate.bias, dilation=2**i)
        filtered, opened = both.chunk(2, 1)
        gated = filtered.tanh() * opened.sigmoid()
        skip_SWT = skip_SWT + F.conv1d(gated, skip.weight[..., None], skip.bias)
        if i < len(network.mixes):
            x_SWT = x_SWT + F.conv1d(gated, network.mixes[i].weight[..., None], network.mixes[i].bias)
    return network.output(network.hidden(skip_SWT[..., -1].relu()).relu())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 9))
def test_looking_only_where_the_last_step_does_gives_the_dilated_stacks_numbers(layers: int, more: int) -> None:
    torch.manual_seed(layers)
    network = DilatedForecaster(4, layers, 6, 2, 0.0).eval()
    series_ST = torch.randn(4, 2**layers + more)
    torch.testing.assert_close(network(series_ST, 2), full_wavenet(network, series_ST), rtol=1e-4, atol=1e-5)


def test_values_before_its_sight_change_nothing_and_the_first_in_sight_does() -> None:
    network, series_ST = DilatedForecaster(4, 3, 6, 2, 0.0).eval(), torch.randn(2, 12)
    before, within = series_ST.clone(), series_ST.clone()
    before[:, :4], within[:, 4] = 9.0, 9.0
    torch.testing.assert_close(network(before, 2), network(series_ST, 2))
    assert not torch.allclose(network(within, 2), network(series_ST, 2))


def test_wavenet_that_would_not_see_the_whole_look_back_is_refused() -> None:
    facts = {"look_back": 720, "horizon": 96, "channels": ["a", "b"]}
    config = ModelConfig(architecture="wavenet", width=4, layers=9)
    with pytest.raises(ConfigError, match=r"model\.layers: 9 layers see 512 rows, look_back asks for 720; give 10"):
        _network(config, facts)
    assert _network(config.model_copy(update={"layers": 10}), facts).sight >= 720
    assert _network(config, {**facts, "look_back": 512}).sight == 512


def test_plain_recurrence_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = TanhRNN(3, 5, True), nn.RNN(3, 5, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.weight_hh_l0.copy_(ours.recurrent.weight)
        theirs.bias_hh_l0.zero_()
    x_BTW, state_1BW = torch.randn(2, 4, 3), torch.randn(1, 2, 5)
    for given_state in (None, state_1BW):
        for mine, wanted in zip(ours(x_BTW, given_state), theirs(x_BTW, given_state), strict=True):
            torch.testing.assert_close(mine, wanted)
