"""What a generator of sound says, beside people who said the same, and how far its receptive field reaches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.axes import Scale, grid, picture, polyline, text
from components.evaluation.charts.spectrogram import spectrogram_url
from components.evaluation.pictures import Picture
from components.inference.data_urls import data_url_bytes
from components.inference.mu_law import CODES, decode
from components.inference.wav import open_sound, wav_url

SHOWN = 6  # recordings, each of another word
SECONDS = 0.5
WIDTH, HEIGHT = 560, 300  # pixels


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return drawn sounds beside recordings of the same word by the same speaker, and what a receptive field takes."""
    rows = _rows_of_unlike_words(examples)
    wishes = [f"{examples.names()[row]} {SECONDS:g} s" for row in rows]
    drawn = predictor.predict(wishes)
    sounds = [sound for row, answer in zip(rows, drawn, strict=True) for sound in _pair(examples, row, answer)]
    return [
        Picture(
            "What it says",
            f"Left a person, a recording it never heard; right the chosen variant, {SECONDS:g} s drawn sample by "
            f"sample. A guess from single samples costs {_single_sample_bits(examples):.2f} bits a sample.",
            "\n".join(map(_figure, sounds)),
            {name: content for sound in sounds for name, content in _files(sound).items()},
        ),
        Picture(
            "How far back it hears",
            "Samples an output depends on, by the parameters of the layers up to it: layers of "
            f"{_layer_parameters(teacher):,} parameters each. Dilations that double reach as far with a few layers as "
            "plain convolutions do with thousands; a cycle begins again at 1.",
            receptive_chart(teacher.module.wavenet.dilations, _layer_parameters(teacher)),
        ),
    ]


def _rows_of_unlike_words(examples: Any) -> list[int]:
    first: dict[tuple[int, int], int] = {}
    for row, (word, speaker, _) in enumerate(examples.who):
        if int(speaker) == int(word) % len(examples.speakers):
            first.setdefault((int(word), int(speaker)), row)
    return [first[key] for key in sorted(first)][:SHOWN]


@dataclass(frozen=True)
class _Sound:
    """Somebody's word as a WAV file and its spectrogram as a PNG file, both in data URLs; kind: recorded or drawn."""

    word: str
    speaker: str
    kind: str
    wav: str
    spectrogram: str


def _pair(examples: Any, row: int, answer: str) -> tuple[_Sound, _Sound]:
    word, speaker, _ = examples.who[row]
    said = examples.words[word], examples.speakers[speaker]
    recorded_T = decode(examples.codes[row])
    drawn_T = open_sound(answer, examples.rate)
    return (
        _Sound(*said, "recorded", wav_url(recorded_T, examples.rate), spectrogram_url(recorded_T)),
        _Sound(*said, "drawn", answer, spectrogram_url(drawn_T)),
    )


def _figure(sound: _Sound) -> str:
    kind = f"<b>{sound.kind}</b>" if sound.kind == "drawn" else sound.kind
    return (
        f'<figure class="sound"><img src="{sound.spectrogram}" alt="spectrogram">'
        f'<audio controls preload="none" src="{escape(sound.wav)}"></audio>'
        f"<figcaption>{escape(sound.word)}, {escape(sound.speaker)}, {kind}</figcaption></figure>"
    )


def _files(sound: _Sound) -> dict[str, bytes]:
    """Return the sound and its spectrogram as files, by a name that holds no path whatever words and speakers do."""
    name = re.sub(r"[^\w-]", "_", f"{sound.word}-{sound.speaker}-{sound.kind}")
    return {
        f"{name}.wav": data_url_bytes(sound.wav, "audio/wav"),
        f"{name}.png": data_url_bytes(sound.spectrogram, "image/png"),
    }


def _single_sample_bits(examples: Any) -> float:
    """Return the entropy of single samples in bits: what a guess costs that knows how often each code comes."""
    counts = np.bincount(np.concatenate(examples.codes), minlength=CODES)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _layer_parameters(teacher: Any) -> int:
    """Return a layer's parameters, its share of those that bring the condition in."""
    wavenet = teacher.module.wavenet
    condition = 0 if wavenet.condition is None else wavenet.condition.weight.numel() // len(wavenet.layers)
    return int(condition + sum(parameter.numel() for parameter in wavenet.layers[0].parameters()))


def receptive_chart(dilations: Sequence[int], parameters: int) -> str:
    """Return receptive fields by parameters as SVG: those of plain convolutions, and of a model's dilations.

    parameters: of one layer.
    """
    most = len(dilations)
    plain: list[tuple[float, float]] = [(n * parameters, 1 + n) for n in range(1, most + 1)]
    doubled: list[tuple[float, float]] = [(n * parameters, 1 + sum(dilations[:n])) for n in range(1, most + 1)]
    reach = doubled[-1][1]
    x = Scale(0, (most + 1) * parameters, 56, WIDTH - 24)
    y = Scale(1, reach * 2, HEIGHT - 48, 16, logarithmic=True)
    marks = grid(x, y, x.ticks(6), y.ticks(5))
    for points, kind, name in ((doubled, "s1", "dilated"), (plain, "s0", "plain")):
        marks += _line(points, kind, name, x, y)
    marks.append(text(WIDTH - 24, HEIGHT - 8, "parameters →", "name", "end"))
    return picture(WIDTH, HEIGHT, marks, "receptive field in samples by parameters")


def _line(points: Sequence[tuple[float, float]], kind: str, name: str, x: Scale, y: Scale) -> list[str]:
    (across, reach) = points[-1]
    label = text(x(across), y(reach) - 8, f"{name}: {reach:,.0f}", "label", "end")
    return [polyline([(x(a), y(b)) for a, b in points], f"curve {kind}"), label]
