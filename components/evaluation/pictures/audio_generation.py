"""What a generator of sound says, beside people who said the same, and how far its receptive field reaches."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    pairs = [_pair(examples, row, answer) for row, answer in zip(rows, drawn, strict=True)]
    files = {k: v for row, answer in zip(rows, drawn, strict=True) for k, v in _files(examples, row, answer).items()}
    return [
        Picture(
            "What it says",
            f"Left a person, a recording it never heard; right the chosen variant, {SECONDS:g} s drawn sample by "
            f"sample. A guess from single samples costs {_single_sample_bits(examples):.2f} bits a sample.",
            "\n".join(pairs),
            files,
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


def _pair(examples: Any, row: int, answer: str) -> str:
    word, speaker, _ = examples.who[row]
    said = f"{escape(examples.words[word])}, {escape(examples.speakers[speaker])}"
    recorded_T = decode(examples.codes[row])
    return _figure(recorded_T, wav_url(recorded_T, examples.rate), f"{said}, recorded") + _figure(
        open_sound(answer, examples.rate), answer, f"{said}, <b>drawn</b>"
    )


def _files(examples: Any, row: int, answer: str) -> dict[str, bytes]:
    """Return the recorded and the drawn sound as WAV, and both spectrograms as PNG, by file name."""
    word, speaker, _ = examples.who[row]
    recorded_T = decode(examples.codes[row])
    sounds = {"recorded": (recorded_T, wav_url(recorded_T, examples.rate)),
              "drawn": (open_sound(answer, examples.rate), answer)}  # fmt: skip
    files = {}
    for kind, (samples_T, url) in sounds.items():
        name = re.sub(r"[^\w-]", "_", f"{examples.words[word]}-{examples.speakers[speaker]}-{kind}")
        files[f"{name}.wav"] = data_url_bytes(url, "audio/wav")
        files[f"{name}.png"] = data_url_bytes(spectrogram_url(samples_T), "image/png")
    return files


def _figure(samples_T: np.ndarray, source: str, caption: str) -> str:
    return (
        f'<figure class="sound"><img src="{spectrogram_url(samples_T)}" alt="spectrogram">'
        f'<audio controls preload="none" src="{escape(source)}"></audio><figcaption>{caption}</figcaption></figure>'
    )


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
