"""A network that rounds: in the steps of the graph, where the graph does, and only while it is asked to."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from components.export.fake_quant import Simulated, plain, rounded_weight, simulate
from components.export.qdq import reduced_scale, rounded, scale_and_zero

NUMBERS = st.floats(-100, 100, width=32)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 4), elements=NUMBERS))
def test_weights_are_rounded_as_in_the_graph(weight: np.ndarray) -> None:
    scale = reduced_scale(weight, 0)[:, None, None, None]
    expected = rounded(weight, 0, reduced_scale(weight, 0)) * scale
    got = rounded_weight(torch.from_numpy(weight)).numpy()
    halfway = np.abs(np.abs(weight / scale) % 1 - 0.5) < 1e-4  # torch multiplies by the inverse
    assert np.abs(got - expected)[~halfway].max(initial=0) <= 1e-5 * np.abs(weight).max()
    assert np.abs(got - expected).max() <= 1.001 * scale.max()


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float32, st.integers(1, 20), elements=NUMBERS), NUMBERS, NUMBERS)
def test_activations_are_rounded_as_in_the_graph(values: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    scale, zero = scale_and_zero((low, high))
    steps = np.rint(values / scale)
    expected = (np.clip(steps + int(zero), 0, 255) - int(zero)) * scale
    ranges = simulate(nn.Linear(2, 2))
    ranges.set("x", low, high)
    got = ranges.rounded("x", torch.from_numpy(values)).numpy()
    halfway = np.abs(np.abs(values / scale) % 1 - 0.5) < 1e-3
    assert np.abs(got - expected)[~halfway].max(initial=0) <= 1e-5 * max(scale * 255, 1e-30)


def test_a_norm_behind_a_layer_does_not_matter_to_its_weights() -> None:
    weight = torch.randn(8, 3, 3, 3)
    factor = torch.tensor([0.5, -2, 4, 1, 8, -0.25, 1, 2])[:, None, None, None]
    assert torch.allclose(rounded_weight(weight * factor), rounded_weight(weight) * factor, rtol=1e-6)


def test_what_channels_of_a_picture_are_multiplied_by_is_rounded_with_the_weights() -> None:
    weight, factor = torch.randn(8, 3, 3, 3), torch.tensor([0.01, 0.02, 0.04])[:, None, None]
    got = rounded_weight(weight, factor)
    share = factor / factor.max()
    padded = nn.functional.pad(weight * share, (0, 0, 0, 0, 0, 1)).numpy()  # the graph reads four channels
    expected = rounded(padded, 0, reduced_scale(padded, 0)) * reduced_scale(padded, 0)[:, None, None, None]
    np.testing.assert_allclose((got * share).numpy(), expected[:, :3], atol=1e-5)


class Picture(nn.Module):
    """Bytes, normalized channel by channel, and a convolution that pads them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False)

    def forward(self, image_BHWC: Tensor) -> Tensor:
        mean, factor = torch.tensor([80.0, 97, 104])[:, None, None], torch.tensor([0.01, 0.02, 0.03])[:, None, None]
        return self.conv((image_BHWC.permute(0, 3, 1, 2).float() - mean) * factor)


def test_a_picture_is_padded_with_one_byte_as_in_the_graph_and_is_not_rounded_again() -> None:
    picture = Picture()
    image = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    bordered = nn.functional.pad(image, (0, 0, 1, 1, 1, 1), value=94)  # the mean of the means
    ranges = simulate(picture)
    expected = picture(bordered)[:, :, 1:-1, 1:-1]  # of the inner places all neighbours are there
    assert torch.allclose(picture(image), expected, atol=1e-5)
    assert ranges.as_dict() == {}


@pytest.mark.parametrize("axes", [1, -1, (2,), None])
def test_means_over_other_axes_than_a_pictures_are_left_as_they_are(axes: Any) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x.mean() if axes is None else x.mean(axes) + x.mean(axes, keepdim=True).sum()

    network, x = Mean(), torch.rand(2, 2, 3, 3)
    expected = network(x)
    observed(network, x)
    assert torch.allclose(network(x), expected, atol=0.1)


class Network(nn.Module):
    """Two layers whose sum a third reads, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm(self.a(x))) + self.b(x)
        return self.head(self.c(x).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


def observed(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    ranges = simulate(network)
    ranges.observer = lambda name, value: seen.update({name: value.detach().clone()})
    network.eval()(x)
    ranges.observer = None
    for name, value in seen.items():
        ranges.set(name, float(value.min()), float(value.max()))
    return seen


def test_ranges_are_named_by_layers_and_seen_behind_norms_and_relus(network: Network) -> None:
    seen = observed(network, torch.randn(3, 2, 5, 5))
    assert set(seen) == {"a:in", "b:in", "a", "b", "Add:b", "c", "GlobalAveragePool:c"}
    assert seen["a"].min() == 0
    assert seen["Add:b"].shape == (3, 4, 5, 5)
    assert seen["GlobalAveragePool:c"].shape == (3, 4)


def test_gradients_reach_every_weight_and_norms_stay_frozen(network: Network) -> None:
    x = torch.randn(3, 2, 5, 5)
    observed(network, x)
    before = network.norm.running_mean.clone()  # type: ignore[union-attr]
    network.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert torch.equal(network.norm.running_mean, before)  # type: ignore[arg-type]


def test_plain_is_the_network_as_it_was_and_copies_round_on_their_own(network: Network) -> None:
    x = torch.randn(3, 2, 5, 5)
    expected = network.eval()(x)
    observed(network, x)
    rounding = network(x)
    assert not torch.equal(rounding, expected)
    assert (rounding - expected).abs().max() < 0.1 * expected.abs().max()
    assert type(plain(network)) is Network
    assert torch.equal(plain(network)(x), expected)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.a.weight.mul_(2)
    assert torch.equal(network(x), rounding)
    assert not torch.equal(twin(x), rounding)
    assert isinstance(twin, Simulated)
    assert twin.fake_quant.as_dict() == network.fake_quant.as_dict()  # type: ignore[operator, union-attr]
    assert twin.state_dict().keys() == Network().state_dict().keys()  # the weights are any network's
