"""Sixteen-bit samples as one of 256 codes on a logarithmic scale (mu-law, ITU-T G.711's curve), and back."""

from __future__ import annotations

import numpy as np

CODES = 256
SILENCE = 128  # the code of a sample of 0
FULL = 32768.0


def encode(samples: np.ndarray) -> np.ndarray:
    """Return the uint8 codes of int16 samples: fine steps for faint ones, coarse steps for loud ones."""
    share = samples.astype(np.float64) / FULL
    curved = np.sign(share) * np.log1p((CODES - 1) * np.abs(share)) / np.log(CODES)
    codes: np.ndarray = np.clip(np.floor((curved + 1) / 2 * (CODES - 1) + 0.5), 0, CODES - 1).astype(np.uint8)
    return codes


def decode(codes: np.ndarray) -> np.ndarray:
    """Return int16 samples of codes."""
    curved = 2 * codes.astype(np.float64) / (CODES - 1) - 1
    share = np.sign(curved) * np.expm1(np.abs(curved) * np.log(CODES)) / (CODES - 1)
    samples: np.ndarray = np.clip(np.rint(share * FULL), -FULL, FULL - 1).astype(np.int16)
    return samples
