"""Recordings as codes: who said what travels with them, and a batch marks what lies behind their ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import ModelpressError
from components.data.coded_sound_dataset import ASKED_S, CodedSounds, prepare_coded
from components.inference.audio_generation import AudioGenerationPredictor
from components.inference.mu_law import encode
from components.inference.wav import open_sound, wav_bytes


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "digits" / "recordings"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for word, speaker, take in ((w, s, t) for w in ("no", "yes") for s in ("ann", "bob") for t in range(4)):
        samples = rng.integers(-3000, 3000, rng.integers(500, 900)).astype(np.int16)
        samples[0] = 300 * take  # by which it is known again
        (folder / f"{word}_{speaker}_{take}.wav").write_bytes(wav_bytes(samples, 8000))
    return tmp_path / "digits"


def test_names_tell_who_said_what_and_takes_are_split(raw: Path, tmp_path: Path) -> None:
    facts = prepare_coded(raw, tmp_path / "out", {"test_takes": 1, "dev_takes": 1})
    assert facts["recordings"] == {"train": 8, "dev": 4, "test": 4}
    test = CodedSounds.load(tmp_path / "out", "test")
    assert sorted(test.names()) == ["no_ann_0", "no_bob_0", "yes_ann_0", "yes_bob_0"]
    train = CodedSounds.load(tmp_path / "out", "train")
    for name, codes in zip(train.names(), train.codes, strict=True):
        assert codes[0] == encode(np.array([300 * int(name[-1])], np.int16))


def test_dataset_of_words_with_underscores_can_be_asked_for_by_its_own_inputs(raw: Path, tmp_path: Path) -> None:
    for path in (raw / "recordings").iterdir():
        path.rename(path.with_name(path.name.replace("no_", "not_now_")))
    prepare_coded(raw, tmp_path / "out", {"test_takes": 1, "dev_takes": 1})
    predictor = AudioGenerationPredictor({}, tmp_path / "out" / "assets", {"seconds": 1})
    data = CodedSounds.load(tmp_path / "out", "test")
    wishes = [predictor._wish(text) for text in data.inputs()]
    assert [f"{data.words[w.word]}_{data.speakers[w.speaker]}_{w.take}" for w in wishes] == data.names()
    assert data.words == ["not_now", "yes"]


def test_batch_marks_what_lies_behind_an_end(raw: Path, tmp_path: Path) -> None:
    prepare_coded(raw, tmp_path / "out", {"test_takes": 1, "dev_takes": 1})
    data = CodedSounds.load(tmp_path / "out", "train")
    codes, words, speakers = data.collate([data[0], data[1]])
    for row in (0, 1):
        length = len(data.codes[row])
        np.testing.assert_array_equal(codes[row, :length], data.codes[row])
        assert (codes[row, length:] == -1).all()
    assert [f"{data.words[w]}_{data.speakers[s]}" for w, s in zip(words, speakers, strict=True)] == [
        name.rpartition("_")[0] for name in data.names()[:2]
    ]


def test_references_are_as_long_as_the_inputs_ask(raw: Path, tmp_path: Path) -> None:
    prepare_coded(raw, tmp_path / "out", {"test_takes": 1, "dev_takes": 1})
    data = CodedSounds.load(tmp_path / "out", "dev")
    assert data.inputs()[0] == f"{data.names()[0]} {ASKED_S:g} s"
    assert len(open_sound(data.references()[0], 8000)) == ASKED_S * 8000
    assert (data + data).names() == data.names() * 2


def test_word_never_heard_in_training_is_named(raw: Path, tmp_path: Path) -> None:
    (raw / "recordings" / "maybe_ann_0.wav").write_bytes(wav_bytes(np.ones(600, np.int16), 8000))
    with pytest.raises(ModelpressError, match="maybe: never in train"):
        prepare_coded(raw, tmp_path / "out", {"test_takes": 1, "dev_takes": 1})
