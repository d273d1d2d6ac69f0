"""Which word a recording holds: a recurrent network over log-mel frames, or a WaveNet over the raw samples.

Both take int16 samples (B, T) with each row's length (B,) and give logits (B, classes); what stands behind a length
changes nothing. Shapes: B recordings, T samples, N frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.log_mel import LogMel, normalized
from components.models.recurrent_stack import RecurrentStack
from components.models.wavenet import WaveNet

FILTER_MS = 10
FILTER_HOP = 4  # samples: `stride` is a multiple of it
LOUDNESS = 8.0  # how far speech lies, on the whole, below its peak: brings a filter's answer near deviation 1
FAINTEST = 0.01  # of a filter's answer: what is below counts as silence


class RecurrentClassifier(nn.Module):
    """The class is read from the last state alone (each direction's), so the network must remember what it heard."""

    def __init__(self, features: LogMel, stack: RecurrentStack, classes: int, dropout: float) -> None:
        super().__init__()
        self.features, self.stack = features, stack
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(stack.outputs, classes)

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        _, last_BO = self.stack(self.features(samples_BT, length_B), self.features.frames(length_B))
        return self.head(self.dropout(last_BO))


class WaveNetClassifier(nn.Module):
    """Learned filters hear the samples, a WaveNet their loudness; the most it finds of each thing is weighed.

    Filters, rectified, averaged, on a logarithmic scale: what Sainath et al. (2015) learn from raw waveforms, causal.
    A step is `stride` samples. The WaveNet paper classifies speech by pooling a WaveNet's outputs too (section 3.4).
    """

    def __init__(
        self, rate: int, wavenet: WaveNet, filters: int, skip: int, stride: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.stride, self.wavenet = stride, wavenet
        self.filter_length = rate * FILTER_MS // 1000
        self.filters = nn.Conv1d(1, filters, self.filter_length, FILTER_HOP)
        nn.init.normal_(self.filters.weight, std=LOUDNESS * self.filter_length**-0.5)
        self.bands = nn.Linear(filters, wavenet.width)
        self.hidden = nn.Linear(skip, skip)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(skip, classes)

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        x_BNW = self.bands(self._loudness(samples_BT, length_B))
        hidden_BNS = self.hidden(self.wavenet(x_BNW).relu()).relu()
        length_B1 = torch.div(length_B + self.stride - 1, self.stride, rounding_mode="floor").clamp(min=1)[:, None]
        real_BN = torch.arange(hidden_BNS.shape[1], device=length_B.device) < length_B1
        most_BS = (hidden_BNS * real_BN[..., None]).amax(1)  # however long the silence around a word is
        return self.head(self.dropout(most_BS))

    def _loudness(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        """Return the logarithm of how much each filter answers within a step, (B, N, filters), N = ceil(T / stride)."""
        sound_BT = normalized(samples_BT, length_B).to(self.head.weight.dtype)
        whole = (sound_BT.shape[1] + self.stride - 1) // self.stride * self.stride
        before = self.filter_length - FILTER_HOP  # a step's last filter ends with the step's last sample
        sound_B1T = F.pad(sound_BT, (before, whole - sound_BT.shape[1]))[:, None]
        heard_BFN = F.avg_pool1d(self.filters(sound_B1T).relu(), self.stride // FILTER_HOP)
        return 1 + 0.5 * (heard_BFN.transpose(1, 2) + FAINTEST).log()  # near mean 0 and deviation 1
