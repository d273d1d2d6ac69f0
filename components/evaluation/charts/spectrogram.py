"""A sound as a picture: time to the right, frequency upwards, the louder the darker."""

from __future__ import annotations

import base64
import io

import numpy as np

WINDOW, HOP = 256, 40  # samples: 32 ms at 8 kHz, every 5 ms
RANGE_DB = 70.0  # what is fainter than the loudest by more stays white


def spectrogram(samples_T: np.ndarray) -> np.ndarray:
    """Return the loudness of each frequency over time, float64 (WINDOW // 2, frames) from 0 to 1, lowest row first."""
    sound_T = np.pad(samples_T.astype(np.float64), (WINDOW // 2, WINDOW // 2))
    frames_NW = np.lib.stride_tricks.sliding_window_view(sound_T, WINDOW)[::HOP] * np.hanning(WINDOW)
    power_NF = np.abs(np.fft.rfft(frames_NW)[:, 1:]) ** 2
    decibel_NF = 10 * np.log10(np.maximum(power_NF, 1e-9))
    loudness_FN: np.ndarray = np.clip((decibel_NF - decibel_NF.max()) / RANGE_DB + 1, 0, 1).T
    return loudness_FN


def spectrogram_url(samples_T: np.ndarray) -> str:
    """Return the picture as PNG in a data URL, grey on white, the highest frequency at the top."""
    from PIL import Image

    loudness_FN = spectrogram(samples_T)[::-1]
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * (1 - loudness_FN)).astype(np.uint8), "L").save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
