"""A wish becomes noise of its own and a WAV file; mu-law gives the samples back about as exactly as they are loud."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.inference.audio_generation import BATCH, AudioGenerationPredictor
from components.inference.mu_law import CODES, SILENCE, decode, encode
from components.inference.wav import open_sound


class NoiseAsCodes:
    """A graph that gives the noise it was given, as codes; louder for word 1."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        assert outputs == ["code", "bits"]
        assert {name: value.dtype for name, value in inputs.items()} == {
            "given": np.int64, "noise": np.float32, "word": np.int64, "speaker": np.int64,
        }  # fmt: skip
        assert (inputs["given"] == -1).all()
        codes_BT = (inputs["noise"] * 100).astype(np.int64) + 100 * inputs["word"][:, None]
        return [codes_BT, np.zeros(codes_BT.shape, np.float32)]


@pytest.fixture
def predictor(tmp_path: Path) -> AudioGenerationPredictor:
    about = {"rate": 8000, "words": ["no", "yes"], "speakers": ["ann", "bob"]}
    (tmp_path / "sound.json").write_text(json.dumps(about))
    return AudioGenerationPredictor({"generate": NoiseAsCodes()}, tmp_path, {"seconds": 0.1})


def test_answer_is_as_long_as_asked_for(predictor: AudioGenerationPredictor) -> None:
    answers = predictor.predict(["no_ann_1 0.25 s", "yes_bob_2", "no_ann_1 0.001 s"])
    assert [len(open_sound(answer, 8000)) for answer in answers] == [2000, 800, 8]
    assert predictor.count_units(answers) == 2808


def test_the_same_take_is_the_same_sound_whoever_else_is_asked_for(predictor: AudioGenerationPredictor) -> None:
    (alone,) = predictor.predict(["no_ann_1"])
    wishes = ["yes_ann_1 0.3 s", *[f"no_bob_{take}" for take in range(BATCH)], "no_ann_1", "no_ann_2"]
    many = predictor.predict(wishes)
    assert many[-2] == alone
    assert len(set(many)) == len(many)
    noise = np.random.default_rng([0, 0, 2]).random(800, np.float32)
    np.testing.assert_array_equal(open_sound(many[-1], 8000), decode((noise * 100).astype(np.uint8)))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("hello", "not of the form <word>_<speaker>_<take>, e.g. 'no_ann_1'"),
        ("no_ann_x", "not of the form"),
        ("noo_ann_1", "'noo': no such word, did you mean no"),
        ("no_eve_1", "'eve': no such speaker"),
        ("no_ann_1 0 s", "ask for more than 0"),
        ("no_ann_1 99 s", "at most 5"),
    ],
)
def test_what_cannot_be_said_is_one_clear_line(predictor: AudioGenerationPredictor, wish: str, words: str) -> None:
    with pytest.raises(ModelpressError, match=words) as raised:
        predictor.predict([wish])
    assert "\n" not in str(raised.value)


def test_a_word_may_hold_underscores(predictor: AudioGenerationPredictor) -> None:
    predictor.words.append("turn_left")
    assert len(open_sound(*predictor.predict(["turn_left_bob_3 0.2 s"]), 8000)) == 1600


def test_no_wishes_give_no_answers(predictor: AudioGenerationPredictor) -> None:
    assert predictor.predict([]) == []


@given(st.lists(st.integers(-32768, 32767), min_size=1))
def test_mu_law_gives_samples_back_within_a_step(samples: list[int]) -> None:
    before = np.array(samples, np.int16)
    after = decode(encode(before)).astype(int)
    assert (np.abs(after - before) <= 0.025 * np.abs(before.astype(int)) + 3).all()


def test_every_code_is_used_and_silence_is_one_of_them() -> None:
    codes = np.arange(CODES, dtype=np.uint8)
    np.testing.assert_array_equal(encode(decode(codes)), codes)
    assert encode(np.zeros(1, np.int16)) == SILENCE
