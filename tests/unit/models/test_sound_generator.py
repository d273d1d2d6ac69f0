"""Sample by sample is what the whole sequence gives at once, and what is drawn follows the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from components.core.task import LoopSpec, load_task
from components.export.torch_session import run_eagerly
from components.models.sound_generator import SoundGenerator, draw
from components.models.wavenet import WaveNet, dilation_cycles

TASK = load_task("audio_generation")
STEPS = 40  # more than twice the receptive field: the rings go round


@pytest.fixture
def model() -> SoundGenerator:
    torch.manual_seed(0)
    wavenet = WaveNet(8, 12, dilation_cycles(2, 3), conditions=16)
    return SoundGenerator(wavenet, skip=12, codes=256, silence=128, words=3, speakers=2).eval()


def generate(model: SoundGenerator, given: Tensor, noise: Tensor) -> dict[str, Tensor]:
    (spec,) = TASK.graphs(model, TASK.Options())
    assert isinstance(spec, LoopSpec)
    who = {"word": torch.arange(len(given)) % 3, "speaker": torch.arange(len(given)) % 2}
    return run_eagerly(spec, {"given": given, "noise": noise, **who})


def bits_at_once(model: SoundGenerator, codes: Tensor) -> Tensor:
    with torch.inference_mode():
        logits = model(codes, torch.arange(len(codes)) % 3, torch.arange(len(codes)) % 2)
    return -logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0] / np.log(2)


def test_given_samples_cost_step_by_step_what_they_cost_at_once(model: SoundGenerator) -> None:
    codes = torch.randint(0, 256, (3, STEPS), generator=torch.Generator().manual_seed(1))
    found = generate(model, codes, torch.zeros(3, STEPS))
    assert torch.equal(found["code"], codes)
    torch.testing.assert_close(found["bits"], bits_at_once(model, codes), atol=1e-4, rtol=1e-4)


def test_drawn_samples_are_those_of_recomputing_everything_for_each(model: SoundGenerator) -> None:
    noise = torch.rand(2, STEPS, generator=torch.Generator().manual_seed(2))
    found = generate(model, torch.full((2, STEPS), -1), noise)["code"]
    codes = torch.zeros(2, STEPS, dtype=torch.int64)
    with torch.inference_mode():
        for step in range(STEPS):
            logits = model(codes[:, : step + 1], torch.arange(2), torch.arange(2))[:, -1]
            codes[:, step : step + 1] = draw(logits, noise[:, step : step + 1])
    assert torch.equal(found, codes)


def test_what_is_given_first_is_gone_on_with(model: SoundGenerator) -> None:
    noise = torch.rand(1, STEPS, generator=torch.Generator().manual_seed(3))
    free = torch.full((1, STEPS), -1)
    begun = free.clone()
    begun[:, :10] = 7
    found = generate(model, begun, noise)["code"]
    assert found[0, :10].tolist() == [7] * 10
    assert not torch.equal(found[:, 10:], generate(model, free, noise)["code"][:, 10:])


def test_draws_follow_the_distribution() -> None:
    shares = torch.tensor([0.1, 0.0, 0.6, 0.3])
    noise = (torch.arange(10_000) + 0.5)[:, None] / 10_000
    drawn = draw(shares.log().expand(10_000, -1), noise)
    counts = torch.bincount(drawn[:, 0], minlength=4) / 10_000
    torch.testing.assert_close(counts, shares, atol=2e-4, rtol=0)


def test_no_noise_draws_a_code_there_is() -> None:
    logits = torch.zeros(2, 256)
    drawn = draw(logits, torch.tensor([[0.0], [float(np.nextafter(np.float32(1), np.float32(0)))]]))
    assert drawn.tolist() == [[0], [255]]
