"""Random views of a batch of recordings: played faster or slower, with noise, with silence behind them."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from components.core.config import Config


class Augmentation(Config):
    """What may happen to a recording without changing what is said in it.

    speed: largest share by which it is played faster or slower, which moves its pitch too.
    noise: deviation of the loudest white noise, as a share of the recording's peak.
    silence_s: longest silence behind it, in seconds; one length for a batch, and none for every second one.
    """

    speed: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0, lt=1)
    silence_s: float = Field(default=0.0, ge=0)


def augment(samples_BT: Tensor, length_B: Tensor, config: Augmentation, rate: int) -> tuple[Tensor, Tensor]:
    """Return a random view of each recording, int16 (B, T') and lengths, drawn from torch's generator."""
    sound_BT, length_B = _at_other_speeds(samples_BT.float(), length_B, config.speed)
    silence = max(0, int((2 * torch.rand(()) - 1) * config.silence_s * rate))
    sound_BT, length_B = torch.nn.functional.pad(sound_BT, (0, silence)), length_B + silence
    peak_B1 = sound_BT.abs().amax(1, keepdim=True)
    level_B1 = config.noise * torch.rand(len(length_B), 1) ** 2  # most are faint
    sound_BT = sound_BT + torch.randn_like(sound_BT) * level_B1 * peak_B1
    real_BT = torch.arange(sound_BT.shape[1]) < length_B[:, None]
    return (sound_BT * real_BT).round().clamp(-32768, 32767).to(torch.int16), length_B


def _at_other_speeds(sound_BT: Tensor, length_B: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Read each recording at a speed of its own, between two samples by a straight line."""
    speed_B1 = 1 + most * (2 * torch.rand(len(length_B), 1) - 1)
    length_B = (length_B / speed_B1[:, 0]).long()
    place_BT = torch.arange(int(length_B.max())) * speed_B1
    before_BT = place_BT.long().clamp(max=sound_BT.shape[1] - 1)
    after_BT = (before_BT + 1).clamp(max=sound_BT.shape[1] - 1)
    return torch.lerp(sound_BT.gather(1, before_BT), sound_BT.gather(1, after_BT), place_BT - before_BT), length_B
