"""Sound to and from WAV (RIFF, linear PCM) with the standard library: as a file or as a data URL."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.data_urls import data_url_bytes

MOST_SECONDS = 30.0  # a word or a sentence; more would hold memory and a core for everybody else
LOUDEST = 32767
PLAIN = b"\x01\x00"  # linear PCM's tag in a head; the extensible form has another, and this one behind it
EXTENSIBLE = b"\xfe\xff"
PCM_GUID = PLAIN + bytes.fromhex("000000001000800000aa00389b71")


class WaveReader(wave.Wave_read):
    """The standard library's, which before Python 3.12 refuses the extensible head many tools give 24-bit sound."""

    def _read_fmt_chunk(self, chunk: Any) -> None:
        head = chunk.read(40)
        if head[:2] == EXTENSIBLE and head[24:] == PCM_GUID:
            head = PLAIN + head[2:]
        super()._read_fmt_chunk(io.BytesIO(head))  # type: ignore[misc]


def open_sound(text: str, rate: int) -> np.ndarray:
    """Return mono samples int16 (T,) at `rate` samples a second, of a WAV file's path or a data URL.

    Samples of 8, 16, 24 and 32 bits are read, under a plain or an extensible head; channels are averaged, other rates
    resampled.

    Raises:
        ModelpressError: no such file, no WAV file of linear PCM, none or too much sound in it.
    """
    name, content = (f"{text[:30]}...", data_url_bytes(text, "audio/wav")) if text.startswith("data:") else (text, text)
    try:
        with WaveReader(content if isinstance(content, str) else io.BytesIO(content)) as file:
            own_rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if own_rate < 1:
                raise ModelpressError(f"{name}: {own_rate} samples a second; write its rate into its head")
            seconds = file.getnframes() / own_rate
            if seconds > MOST_SECONDS:  # known from the head, before anything is unpacked
                raise ModelpressError(f"{name}: {seconds:.1f} s of sound, at most {MOST_SECONDS:.0f}; cut it")
            samples_T = _unpack(file.readframes(file.getnframes()), channels, width)
    except FileNotFoundError:
        raise ModelpressError(f"{name}: no such file; give a WAV file, or a data URL") from None
    except ModelpressError:
        raise
    except Exception as error:  # on damaged bytes the module raises whatever its parts do, RuntimeError among them
        raise ModelpressError(f"{name}: not a WAV file of linear PCM ({error or 'it breaks off'})") from None
    if not len(samples_T):
        raise ModelpressError(f"{name}: holds no sound; record some")
    return _to_int16(_resample(samples_T, own_rate, rate))


def wav_bytes(samples_T: np.ndarray, rate: int) -> bytes:
    """Return a WAV file of mono samples int16 (T,)."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples_T.astype("<i2").tobytes())
    return content.getvalue()


def wav_url(samples_T: np.ndarray, rate: int) -> str:
    """Return mono samples int16 (T,) as a WAV file in a data URL, which needs no file."""
    return f"data:audio/wav;base64,{base64.b64encode(wav_bytes(samples_T, rate)).decode()}"


def _unpack(raw: bytes, channels: int, width: int) -> np.ndarray:
    """Return float64 (T,) in the unit of 16-bit samples, the mean over the channels."""
    if width > 4:
        raise ValueError(f"samples of {8 * width} bits")
    whole = len(raw) - len(raw) % (width * channels)  # a file cut short may end within a sample
    bytes_NW = np.frombuffer(raw[:whole], np.uint8).reshape(-1, width)
    if width == 1:  # the only unsigned kind
        values_N = (bytes_NW[:, 0].astype(np.float64) - 128) * 256
    else:
        padded_N4 = np.zeros((len(bytes_NW), 4), np.uint8)
        padded_N4[:, 4 - width :] = bytes_NW  # little-endian: the highest bytes come last
        values_N = padded_N4.view("<i4")[:, 0].astype(np.float64) / 65536
    samples_T: np.ndarray = values_N.reshape(-1, channels).mean(1)
    return samples_T


def _resample(samples_T: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Return the sound at another rate: its spectrum cut off, or continued by nothing."""
    if own_rate == rate:
        return samples_T
    length = max(1, round(len(samples_T) * rate / own_rate))
    return np.fft.irfft(np.fft.rfft(samples_T), length) * (length / len(samples_T))


def _to_int16(samples_T: np.ndarray) -> np.ndarray:
    whole_T: np.ndarray = np.clip(np.rint(samples_T), -LOUDEST - 1, LOUDEST).astype(np.int16)
    return whole_T
