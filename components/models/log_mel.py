"""Log-mel features inside the model, so that a graph takes raw samples: the loudness of 40 bands, every 10 ms.

The mel scale is O'Shaughnessy's (1987): 2595 log10(1 + f / 700). Shapes: B recordings, T samples, N frames, M bands.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW_MS, HOP_MS = 32, 10
FLOOR = 1e-5  # power below it counts as silence: about 80 dB under a full tone's
SCALE, SHIFT = 0.25, 1.0  # bring the logarithms of speech near mean 0 and deviation 1


class LogMel(nn.Module):
    """Samples int16 (B, T) -> features (B, N, M), N = T // hop. It learns nothing.

    rate: of 100 to 80,000 samples a second, so that a hop has some and no more than the shortest recording.
    """

    filters_MF: Tensor

    def __init__(self, rate: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.window, self.hop = window_of(rate), rate * HOP_MS // 1000
        self.register_buffer("filters_MF", mel_filters(rate, bands), persistent=False)

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        sound_BT = F.pad(normalized(samples_BT, length_B), (0, self.window - self.hop))
        hann = torch.hann_window(self.window, device=sound_BT.device)
        spectrum_BFN = torch.stft(sound_BT, self.window, self.hop, self.window, hann, center=False, return_complex=True)
        power_BFN = torch.view_as_real(spectrum_BFN).pow(2).sum(-1)
        # the weights on the left: int8 would drown the quiet bands of a power spectrum, and the pass leaves these alone
        mel_BMN = self.filters_MF.float() @ power_BFN
        features_BMN = SHIFT + SCALE * (mel_BMN + FLOOR * self.window).log()
        return features_BMN.transpose(1, 2).to(self.filters_MF.dtype)

    def frames(self, length_B: Tensor) -> Tensor:
        """Return how many frames begin within a recording, int64 (B,)."""
        return torch.div(length_B, self.hop, rounding_mode="floor").clamp(min=1)


def normalized(samples_BT: Tensor, length_B: Tensor) -> Tensor:
    """Return float32 samples whose largest is 1, zeros behind each length: neither loudness nor padding counts."""
    real_BT = torch.arange(samples_BT.shape[1], device=samples_BT.device) < length_B[:, None]
    sound_BT = samples_BT.float() * real_BT
    return sound_BT / sound_BT.abs().amax(1, keepdim=True).clamp(min=1.0)


def window_of(rate: int) -> int:
    """Return the samples of a window, an even number, so that the spectrum ends at half the rate."""
    return rate * WINDOW_MS // 2000 * 2


def mel_filters(rate: int, bands: int) -> Tensor:
    """Return triangles over the spectrum, float32 (bands, window // 2 + 1), centres evenly spread on the mel scale."""
    window = window_of(rate)
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies_F = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies_F - low) / (centre - low), (high - frequencies_F) / (high - centre)
    # narrow bands at the low end may fall between two bins: a band is at least as wide as one
    width = rate / window
    nearest = 1 - (frequencies_F - centre).abs() / width
    return torch.maximum(torch.minimum(rising, falling), nearest).clamp(min=0).float()
