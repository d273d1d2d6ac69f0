"""A WaveNet that says words: the distribution of each sample's code, given the codes before it, the word, the speaker.

Shapes: B rows, T samples, V codes, W width, C channels of the condition.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.wavenet import WaveNet

CONDITIONS = 16  # channels


class SoundGenerator(nn.Module):
    """codes: how many there are; silence: the one that stands before the first sample."""

    def __init__(self, wavenet: WaveNet, skip: int, codes: int, silence: int, words: int, speakers: int) -> None:
        super().__init__()
        self.wavenet, self.silence = wavenet, silence
        self.code = nn.Embedding(codes, wavenet.width)
        self.word, self.speaker = nn.Embedding(words, CONDITIONS), nn.Embedding(speakers, CONDITIONS)
        self.hidden, self.output = nn.Linear(skip, skip), nn.Linear(skip, codes)

    def forward(self, code_BT: Tensor, word_B: Tensor, speaker_B: Tensor) -> Tensor:
        """Return logits (B, T, V) of the code at each step, which they do not see."""
        before_BT = F.pad(code_BT, (1, 0), value=self.silence)[:, :-1]
        return self._head(self.wavenet(self.code(before_BT), self.condition(word_B, speaker_B)))

    def condition(self, word_B: Tensor, speaker_B: Tensor) -> Tensor:
        """Return what all layers are told, (B, C)."""
        return self.word(word_B) + self.speaker(speaker_B)

    def advance(
        self, before_B: Tensor, drives_BL2W: Tensor, past_BDW: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, V) of one step, given the code before it, and the new past."""
        skips_BS, past_BDW = self.wavenet.advance(self.code(before_B), drives_BL2W, past_BDW, position)
        return self._head(skips_BS), past_BDW

    def _head(self, skips: Tensor) -> Tensor:
        return self.output(self.hidden(skips.relu()).relu())


class Start(nn.Module):
    """given, noise, word, speaker -> given, noise, drives (constants); position, past, last code, codes and bits."""

    def __init__(self, model: SoundGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(self, given_BT: Tensor, noise_BT: Tensor, word_B: Tensor, speaker_B: Tensor) -> tuple[Tensor, ...]:
        drives_BL2W = self.model.wavenet.drives(self.model.condition(word_B, speaker_B))
        past_BDW = self.model.wavenet.empty_past(given_BT.shape[0])
        position = torch.zeros((), dtype=torch.int64)
        before_B = torch.full_like(word_B, self.model.silence)
        return (
            given_BT.clone(),
            noise_BT.clone(),
            drives_BL2W,
            position,
            past_BDW,
            before_B,
            torch.zeros_like(given_BT),
            torch.zeros_like(noise_BT),
        )


class Body(nn.Module):
    """One sample: its distribution, then the code that is given or, where none is, the one the noise points to."""

    def __init__(self, model: SoundGenerator, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(
        self,
        constants: list[Tensor],
        position: Tensor,
        past_BDW: Tensor,
        before_B: Tensor,
        code_BT: Tensor,
        bits_BT: Tensor,
    ) -> tuple[Tensor, ...]:
        given_BT, noise_BT, drives_BL2W = constants
        logits_BV, past_BDW = self.model.advance(before_B, drives_BL2W, past_BDW, position)
        here = position[None]
        given_B1, noise_B1 = given_BT.index_select(1, here), noise_BT.index_select(1, here)
        drawn_B1 = draw(logits_BV.float() / self.temperature, noise_B1)
        chosen_B1 = torch.where(given_B1 < 0, drawn_B1, given_B1)
        cost_B1 = -logits_BV.float().log_softmax(-1).gather(1, chosen_B1) / torch.log(torch.tensor(2.0))
        place_B1 = here.expand_as(chosen_B1)
        code_BT, bits_BT = code_BT.scatter(1, place_B1, chosen_B1), bits_BT.scatter(1, place_B1, cost_B1)
        go_on = position + 1 < given_BT.shape[1]
        return go_on, position + 1, past_BDW, chosen_B1[:, 0], code_BT, bits_BT


class Finish(nn.Module):
    """code, bits -> the same: each sample's code int64 (B, T), and what it cost, float32 (B, T)."""

    def forward(self, code_BT: Tensor, bits_BT: Tensor) -> tuple[Tensor, Tensor]:
        return code_BT.clone(), bits_BT.clone()


def draw(logits_BV: Tensor, noise_B1: Tensor) -> Tensor:
    """Return codes int64 (B, 1) of the distribution softmax(logits), picked by uniform noise in [0, 1)."""
    sums_BV = logits_BV.softmax(-1).cumsum(-1)
    return (sums_BV < noise_B1 * sums_BV[:, -1:]).sum(-1, keepdim=True).clamp(max=logits_BV.shape[-1] - 1)
