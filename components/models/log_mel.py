"""Log-mel features inside the model, so that a graph takes raw samples: the loudness of 40 bands, every 10 ms.

The mel scale is O'Shaughnessy's (1987): 2595 log10(1 + f / 700). Shapes: B recordings, T samples, N frames, M bands.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW, HOP = 256, 80  # samples: 32 ms and 10 ms at 8 kHz
FLOOR = 1e-5  # power below it counts as silence: about 80 dB under a full tone's
SCALE, SHIFT = 0.25, 1.0  # bring the logarithms of speech near mean 0 and deviation 1


class LogMel(nn.Module):
    """Samples int16 (B, T) -> features (B, N, M), N = T // HOP. It learns nothing."""

    filters_MF: Tensor

    def __init__(self, rate: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.register_buffer("filters_MF", mel_filters(rate, bands), persistent=False)

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        sound_BT = F.pad(normalized(samples_BT, length_B), (0, WINDOW - HOP))
        window = torch.hann_window(WINDOW, device=sound_BT.device)
        spectrum_BFN = torch.stft(sound_BT, WINDOW, HOP, WINDOW, window, center=False, return_complex=True)
        power_BFN = torch.view_as_real(spectrum_BFN).pow(2).sum(-1)
        # the weights on the left: int8 would drown the quiet bands of a power spectrum, and the pass leaves these alone
        mel_BMN = self.filters_MF.float() @ power_BFN
        features_BMN = SHIFT + SCALE * (mel_BMN + FLOOR * WINDOW).log()
        return features_BMN.transpose(1, 2).to(self.filters_MF.dtype)

    def frames(self, length_B: Tensor) -> Tensor:
        """Return how many frames begin within a recording, int64 (B,)."""
        return torch.div(length_B, HOP, rounding_mode="floor").clamp(min=1)


def normalized(samples_BT: Tensor, length_B: Tensor) -> Tensor:
    """Return float32 samples whose largest is 1, zeros behind each length: neither loudness nor padding counts."""
    real_BT = torch.arange(samples_BT.shape[1], device=samples_BT.device) < length_B[:, None]
    sound_BT = samples_BT.float() * real_BT
    return sound_BT / sound_BT.abs().amax(1, keepdim=True).clamp(min=1.0)


def mel_filters(rate: int, bands: int) -> Tensor:
    """Return triangles over the spectrum, float32 (bands, WINDOW // 2 + 1), centres evenly spread on the mel scale."""
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies_F = torch.linspace(0, rate / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies_F - low) / (centre - low), (high - frequencies_F) / (high - centre)
    # narrow bands at the low end may fall between two bins: a band is at least as wide as one
    width = rate / WINDOW
    nearest = 1 - (frequencies_F - centre).abs() / width
    return torch.maximum(torch.minimum(rising, falling), nearest).clamp(min=0).float()
