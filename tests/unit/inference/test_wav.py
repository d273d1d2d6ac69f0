"""WAV in and out: what is read is what was written, whatever its form; what is no sound is one clear line."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.core.errors import ModelpressError
from components.inference.wav import MOST_SECONDS, open_sound, wav_bytes, wav_url

TONE = (9000 * np.sin(np.arange(2000) / 8000 * 2 * np.pi * 440)).astype(np.int16)


def wav_of(raw: bytes, *, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(raw)
    return content.getvalue()


def extensible(content: bytes, *, subformat: int = 1) -> bytes:
    """Return a WAV file under the head that many tools write for 24-bit sound."""
    plain = content[20:36]
    rest = (22).to_bytes(2, "little") + plain[14:16] + bytes(4) + subformat.to_bytes(2, "little")
    head = b"\xfe\xff" + plain[2:] + rest + bytes.fromhex("000000001000800000aa00389b71")
    return (
        b"RIFF" + (len(content) + 16).to_bytes(4, "little") + b"WAVEfmt " + bytes([40, 0, 0, 0]) + head + content[36:]
    )


def url(content: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(content).decode()}"


@given(arrays(np.int16, st.integers(1, 300)))
def test_written_samples_are_read_again(samples: np.ndarray) -> None:
    np.testing.assert_array_equal(open_sound(wav_url(samples, 8000), 8000), samples)


def test_file_is_read_as_its_data_url_is(tmp_path: Path) -> None:
    (tmp_path / "tone.wav").write_bytes(wav_bytes(TONE, 8000))
    np.testing.assert_array_equal(open_sound(str(tmp_path / "tone.wav"), 8000), TONE)


@pytest.mark.parametrize(
    ("width", "raw"),
    [
        (1, (TONE // 256 + 128).astype(np.uint8).tobytes()),
        (3, b"".join((int(value) * 256).to_bytes(3, "little", signed=True) for value in TONE)),
        (4, (TONE.astype("<i4") * 65536).tobytes()),
    ],
)
@pytest.mark.parametrize("form", [bytes, extensible])
def test_other_sample_widths_are_brought_to_sixteen_bits(
    width: int, raw: bytes, form: Callable[[bytes], bytes]
) -> None:
    found = open_sound(url(form(wav_of(raw, width=width))), 8000)
    assert np.abs(found.astype(int) - TONE).max() <= (256 if width == 1 else 0)


def test_channels_are_averaged() -> None:
    stereo = np.stack([TONE, np.zeros_like(TONE)], 1)
    found = open_sound(url(wav_of(stereo.astype("<i2").tobytes(), channels=2)), 8000)
    assert np.abs(found - TONE / 2).max() <= 0.5


@pytest.mark.parametrize("rate", [4000, 16000, 44100])
def test_another_rate_keeps_length_in_seconds_loudness_and_pitch(rate: int) -> None:
    own = (9000 * np.sin(np.arange(rate // 4) / rate * 2 * np.pi * 440)).astype(np.int16)
    found = open_sound(url(wav_bytes(own, rate)), 8000)
    assert len(found) == 2000
    assert np.abs(found[200:-200].astype(int) - TONE[200:-200]).max() < 90


def test_too_long_a_sound_is_refused_before_it_is_unpacked() -> None:
    head = wav_bytes(np.zeros(1, np.int16), 8000)[:-2]
    size = int(8000 * (MOST_SECONDS + 1) * 2)
    claimed = head[:-4] + size.to_bytes(4, "little")
    with pytest.raises(ModelpressError, match=r"31\.0 s of sound, at most 30"):
        open_sound(url(claimed), 8000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/no/such.wav", r"/no/such\.wav: no such file"),
        ("/tmp", "/tmp: not a WAV file"),
        ("data:audio/wav,plain", "not base64; give data:audio/wav;base64"),
        ("data:audio/wav;base64,???", "not base64"),
        (url(b""), "not a WAV file of linear PCM"),
        (url(b"RIFFxxxxWAVE"), "not a WAV file of linear PCM"),
        (url(wav_of(b"")), "holds no sound"),
        (url(wav_bytes(TONE[:20], 8000).replace((8000).to_bytes(4, "little"), bytes(4))), "0 samples a second"),
        (url(extensible(wav_bytes(TONE, 8000), subformat=3)), "not a WAV file of linear PCM"),
    ],
)
def test_what_is_no_sound_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ModelpressError, match=words) as raised:
        open_sound(text, 8000)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


@given(data=st.data())
def test_damaged_wav_is_read_or_refused_but_breaks_nothing(data: st.DataObject) -> None:
    content = bytearray(wav_bytes(TONE[:50], 8000))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        found = open_sound(url(bytes(content[:cut])), 8000)
    except ModelpressError:
        return
    assert found.dtype == np.int16
    assert len(found)
