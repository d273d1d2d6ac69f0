"""What a classifier of recordings mixes up, how long it remembers, and what its surest mistakes look and sound like."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.confusion import mix_ups
from components.evaluation.charts.percent import percent_chart
from components.evaluation.charts.spectrogram import spectrogram_url
from components.evaluation.labelled import accuracy, surest_mistakes
from components.evaluation.pictures import Picture

MISTAKES = 16
SILENCES_S = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
GROUPS = 5  # of recordings by their own length


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the confusion matrix, accuracy by length, and the worst mistakes on these examples."""
    references = examples.references()
    answers = predictor.predict(examples.inputs())
    wrong = surest_mistakes(answers, references)
    found = f"{len(wrong):,} of {len(references):,} test recordings are labelled wrong."
    silent = [(s, predictor.predict(examples.with_silence(s).inputs())) for s in SILENCES_S]
    by_silence = [(s, accuracy(found, references)) for s, found in silent]
    return [
        Picture(
            "What it mixes up",
            f"A row: recordings of one word; a column: what the chosen variant calls them. {found}",
            mix_ups(references, [answer["label"] for answer in answers]),
        ),
        Picture(
            "What it still knows after a silence",
            "The share of test recordings labelled right when so much silence follows the word. A recurrent network "
            "has to carry the word through it, step by step.",
            percent_chart(by_silence, "seconds of silence behind the word"),
        ),
        Picture(
            "Short and long recordings",
            f"The same share among the shortest to the longest fifth of the recordings, by their mean length. {found}",
            percent_chart(_by_own_length(examples, set(wrong)), "seconds of the recording"),
        ),
        Picture("Surest mistakes", _MISTAKES_CAPTION, _mistakes(examples, answers, references, wrong)),
    ]


_MISTAKES_CAPTION = (
    "The wrong labels it gave the highest probability, and the right ones; time goes to the right, pitch upwards, to "
    "half the sampling rate."
)


def _by_own_length(examples: Any, wrong: set[int]) -> list[tuple[float, float]]:
    """Return (mean seconds, accuracy) of each group, the shortest recordings first."""
    seconds_N = np.array([len(sound) / examples.rate for sound in examples.sounds])
    groups = [rows for rows in np.array_split(np.argsort(seconds_N, kind="stable"), GROUPS) if len(rows)]
    return [
        (float(seconds_N[rows].mean()), 100 * (1 - sum(int(i) in wrong for i in rows) / len(rows))) for rows in groups
    ]


def _mistakes(examples: Any, answers: Sequence[Any], references: Sequence[str], wrong: Sequence[int]) -> str:
    if not wrong:
        return "<p>None: every test recording is labelled right.</p>"
    inputs = examples.inputs()
    return "\n".join(_mistake(examples.sounds[i], inputs[i], answers[i], references[i]) for i in wrong[:MISTAKES])


def _mistake(samples_T: np.ndarray, source: str, answer: dict[str, Any], wanted: str) -> str:
    label = answer["label"]
    return (
        f'<figure class="sound"><img src="{spectrogram_url(samples_T)}" alt="spectrogram of {escape(wanted)}">'
        f'<audio controls preload="none" src="{escape(source)}"></audio>'
        f'<figcaption><b class="miss">{escape(label)}</b> {answer["probabilities"][label]:.0%}, it is '
        f"{escape(wanted)}</figcaption></figure>"
    )
