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

LOUDNESS = 8.0  # how far speech lies, on the whole, below its peak: brings what the stem gives near deviation 1


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
    """A causal convolution hears `stride` samples a step, the WaveNet follows, the mean over time is weighed.

    The paper classifies speech by pooling a WaveNet's outputs too (section 3.4).
    """

    def __init__(self, wavenet: WaveNet, skip: int, stride: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.stride, self.wavenet = stride, wavenet
        self.stem = nn.Linear(2 * stride, wavenet.width)
        nn.init.normal_(self.stem.weight, std=LOUDNESS / (2 * stride) ** 0.5)
        self.hidden = nn.Linear(skip, skip)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(skip, classes)

    def forward(self, samples_BT: Tensor, length_B: Tensor) -> Tensor:
        sound_BT = normalized(samples_BT, length_B).to(self.head.weight.dtype)
        steps_BNS = F.pad(sound_BT, (0, self.stride - 1)).unfold(1, self.stride, self.stride)
        before_BNS = F.pad(steps_BNS, (0, 0, 1, 0))[:, : steps_BNS.shape[1]]
        skips_BNS = self.wavenet(self.stem(torch.cat([before_BNS, steps_BNS], -1)))
        hidden_BNS = self.hidden(skips_BNS.relu()).relu()
        length_B1 = torch.div(length_B + self.stride - 1, self.stride, rounding_mode="floor")[:, None]
        real_BN = torch.arange(hidden_BNS.shape[1], device=length_B.device) < length_B1
        mean_BS = (hidden_BNS * real_BN[..., None]).sum(1) / length_B1.clamp(min=1).to(hidden_BNS.dtype)
        return self.head(self.dropout(mean_BS))
