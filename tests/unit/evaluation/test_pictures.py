"""Tasks' own pictures in the report: the confusion matrix counts, mistakes come surest first, maps are projections."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.core.task import task_names
from components.data.coded_sound_dataset import CodedSounds
from components.data.series_windows import SeriesWindows
from components.data.sound_dataset import SoundDataset
from components.evaluation import pictures
from components.evaluation.charts.axes import CHARACTER
from components.evaluation.charts.confusion import confusion, mix_ups
from components.evaluation.charts.spectrogram import spectrogram
from components.evaluation.pictures import has_pictures, task_pictures
from components.evaluation.pictures.binary_addition import longest_carry
from components.evaluation.pictures.word_embedding import principal_components
from components.inference.wav import open_sound, wav_url
from components.models.wavenet import WaveNet
from components.tasks.binary_addition import Sums

ANSWERS = [("cat", 0.9), ("dog", 0.6), ("dog", 0.95), ("<b>", 0.7)]


class Sure:
    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": label, "probabilities": {label: share}} for label, share in ANSWERS]


class Animals:
    def inputs(self) -> list[str]:
        return [f"data:image/png;base64,AAA{number}" for number in range(4)]

    def references(self) -> list[str]:
        return ["cat", "cat", "cat", "dog"]


def test_confusion_counts_each_class_against_what_it_was_called() -> None:
    counts = confusion(["a", "b"], ["a", "a", "b"], ["a", "b", "b"])
    np.testing.assert_array_equal(counts, [[1, 1], [0, 1]])


def test_the_longest_class_name_stands_within_the_matrix() -> None:
    chart = mix_ups(["HerbaceousVegetation", "Sea"], ["Sea", "HerbaceousVegetation"])
    _, _, width, height = map(float, re.findall(r'viewBox="([^"]*)"', chart)[0].split())
    reach = CHARACTER * len("HerbaceousVegetation")
    rows = [float(x) for x in re.findall(r'x="([\d.]+)" y="[\d.]+" class="tick" text-anchor="end"', chart)]
    columns = re.findall(r"translate\(([\d.]+) ([\d.]+)\) rotate\(-40\)", chart)
    assert len(rows) == len(columns) == 2
    assert all(x - reach >= 0 for x in rows)
    x, y = map(float, columns[0])  # the long name's column
    assert x + reach * math.cos(math.radians(40)) <= width
    assert 0 <= y - reach * math.sin(math.radians(40)) <= height


def test_surest_mistakes_come_first_and_names_are_escaped() -> None:
    matrix, mistakes = task_pictures("image_classification", Sure(), Animals(), None)
    assert "3 of 4 test pictures are labelled wrong" in matrix.caption
    assert re.findall(r"AAA(\d)", mistakes.body) == ["2", "3", "1"]
    assert "<b>" not in mistakes.body.replace('<b class="miss">', "")


def test_map_of_words_shows_principal_components() -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(vectors - vectors.mean(0))
    places = principal_components(vectors @ vectors.T)
    np.testing.assert_allclose(np.abs(places), np.abs(left[:, :2] * values[:2]), atol=1e-9)


class Knowing:
    """Forecasts what will be, and errs by one in the last window."""

    def forecast(self, past_NTC: np.ndarray) -> np.ndarray:
        return past_NTC + np.where(np.arange(len(past_NTC)) == len(past_NTC) - 1, 1.0, 0.0)[:, None, None]


def test_forecasts_stand_beside_the_naive_ones_and_the_hardest_window_is_shown() -> None:
    past_NTC = np.random.default_rng(0).normal(size=(21, 6, 2))
    windows = SeriesWindows(past_NTC, past_NTC, ["<low>", "high"], np.zeros(2), np.array([2.0, 2.0]), season=6)
    beside, by_step, shown = task_pictures("forecasting", Knowing(), windows, None)
    (forecast, persistence, season) = re.findall(r"<td>([\w ]+)</td><td>([\d.]+)</td>", beside.body)
    assert forecast == ("forecast", f"{0.25 / 21:.4f}")
    assert persistence == ("persistence", f"{np.square((past_NTC[:, -1:] - past_NTC) / 2).mean():.4f}")
    assert season == ("last season", "0.0000")
    assert by_step.body.count("<polyline") == 3
    assert shown.body.count("<svg") == 6
    assert "hard: high, window 21" not in shown.body  # the 95th percentile of 21 windows is the 20th
    assert "<low>" not in shown.body


def test_every_module_of_pictures_belongs_to_a_task() -> None:
    from pathlib import Path

    names = {path.stem for path in Path(pictures.__file__).parent.glob("*.py")} - {"__init__"}
    assert names <= set(task_names())
    assert has_pictures("binary_addition")
    assert not has_pictures("no_such_task")


class Forgetful:
    """Adds, but never carries across the fourth place."""

    def predict(self, inputs: list[str]) -> list[str]:
        pairs = [tuple(map(int, text.split(" + "))) for text in inputs]
        return [str((a + b) if (a % 16 + b % 16) < 16 else a + b - 16) for a, b in pairs]


def test_sums_show_where_the_carry_was_lost() -> None:
    pairs = [(a, b) for a in range(0, 128, 5) for b in range(0, 128, 7)]
    lost = sum(a % 16 + b % 16 >= 16 for a, b in pairs)
    place, carry, hardest = task_pictures("binary_addition", Forgetful(), Sums(pairs, 8), None)
    assert f"{len(pairs) - lost:,} of {len(pairs):,} sums are right in every bit" in place.caption
    assert re.findall(r">(\d+\.\d)<", place.body)[:5] == ["100.0"] * 4 + [f"{100 * (1 - lost / len(pairs)):.1f}"]
    assert re.findall(r">(\d+\.\d)<", carry.body)[0] == "100.0"
    assert hardest.body.count("<pre>") == 8
    assert all('<b class="miss">' in part for part in hardest.body.split("</pre>")[:8])


@pytest.mark.parametrize(("pair", "carry"), [((0, 0), 0), ((1, 1), 1), ((7, 1), 3), ((0b1011, 0b0001), 2)])
def test_longest_carry_counts_places_in_a_row(pair: tuple[int, int], carry: int) -> None:
    assert longest_carry(*pair) == carry


class Ear:
    """Hears a word by its loudness, and takes it for silence where it is followed by more than a second of it."""

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        answers = []
        for given in inputs:
            sound = open_sound(given, 8000)
            label = "loud" if np.abs(sound).max() > 5000 and len(sound) < 12_000 else "faint"
            answers.append({"label": label, "probabilities": {label: 0.9}})
        return answers


def test_pictures_of_sounds_tell_accuracy_behind_silence_and_show_the_mistakes() -> None:
    sounds = [np.full(1000 + 100 * i, 9000 if i % 2 else 900, np.int16) for i in range(10)]
    classes = np.array([i % 2 for i in range(10)])
    classes[4] = 1  # a faint recording of the word "loud": a mistake
    matrix, memory, lengths, mistakes = task_pictures(
        "sequence_classification", Ear(), SoundDataset(sounds, classes, ["faint", "loud"], 8000), None
    )
    assert "1 of 10 test recordings are labelled wrong" in matrix.caption
    assert re.findall(r">(\d+\.\d)<", memory.body)[:7] == ["90.0"] * 4 + ["40.0"] * 3
    assert re.findall(r">(\d+\.\d)<", lengths.body).count("100.0") == 4
    assert mistakes.body.count("<audio") == mistakes.body.count("data:image/png") == 1


def test_spectrogram_of_a_tone_is_dark_at_its_pitch() -> None:
    tone = (9000 * np.sin(np.arange(4000) / 8000 * 2 * np.pi * 1000)).astype(np.int16)
    loudness = spectrogram(tone)
    assert loudness.shape[0] == 128
    assert abs((loudness[:, 50].argmax() + 1) * 8000 / 256 - 1000) < 8000 / 256


class Mouth:
    def predict(self, inputs: list[str]) -> list[str]:
        return [wav_url(np.arange(2000, dtype=np.int16), 8000) for _ in inputs]


def test_what_is_said_stands_beside_what_people_said() -> None:
    codes = [np.full(900, 128 + i, np.uint8) for i in range(4)]
    who = np.array([[0, 0, 1], [0, 0, 2], [1, 1, 1], [1, 0, 1]])
    speaker = SimpleNamespace(module=SimpleNamespace(wavenet=WaveNet(2, 3, [1, 2, 4, 1, 2, 4])))
    said, field = task_pictures(
        "audio_generation", Mouth(), CodedSounds(codes, who, ["no", "yes"], ["ann", "bob"], 8000), speaker
    )
    assert re.findall(r"<figcaption>(.*?), (.*?), (?:<b>)?(\w+)", said.body) == [
        ("no", "ann", "recorded"), ("no", "ann", "drawn"), ("yes", "bob", "recorded"), ("yes", "bob", "drawn"),
    ]  # fmt: skip
    assert sorted(said.files) == [
        f"{who}-{kind}.{end}"
        for who in ("no-ann", "yes-bob")
        for kind in ("drawn", "recorded")
        for end in ("png", "wav")
    ]
    assert said.files["no-ann-drawn.wav"][:4] == b"RIFF"
    assert said.files["no-ann-recorded.png"][1:4] == b"PNG"
    assert "costs 2.00 bits" in said.caption
    assert "dilated: 15" in field.body
    assert "plain: 7" in field.body
    assert "35 parameters each" in field.caption
