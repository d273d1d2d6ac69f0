"""Recordings by take: who is tested is not trained on; batches tell lengths; augmentation leaves the padding silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.core.errors import ConfigError, ModelpressError
from components.core.files import sha256_tree
from components.data.sound_augmentation import Augmentation, augment
from components.data.sound_dataset import SoundDataset, prepare_recordings
from components.inference.wav import open_sound, wav_bytes

SPLIT: dict[str, Any] = {"test_takes": 2, "dev_takes": 1}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two words by two speakers in six takes; sample 0 of each says which take it is."""
    folder = tmp_path / "digits" / "recordings"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for word in ("no", "yes"):
        for speaker in ("ann", "bob"):
            for take in range(6):
                samples = rng.integers(-3000, 3000, rng.integers(800, 2000)).astype(np.int16)
                samples[0] = take
                (folder / f"{word}_{speaker}_{take}.wav").write_bytes(wav_bytes(samples, 8000))
    return tmp_path / "digits"


def test_first_takes_are_test_the_next_dev_and_the_rest_train(raw: Path, tmp_path: Path) -> None:
    facts = prepare_recordings(raw, tmp_path / "out", SPLIT)
    takes = {
        split: {int(s[0]) for s in SoundDataset.load(tmp_path / "out", split).sounds} for split in facts["seconds"]
    }
    assert takes == {"test": {0, 1}, "dev": {2}, "train": {3, 4, 5}}
    assert facts["recordings"] == {"train": 12, "dev": 4, "test": 8}


def test_prepare_gives_the_same_bytes_twice_and_words_in_an_order_of_chance(raw: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        prepare_recordings(raw, tmp_path / name, {**SPLIT, "seed": seed})
    digests = [sha256_tree(tmp_path / name) for name in ("one", "two", "three")]
    assert digests[0] == digests[1] != digests[2]
    assert SoundDataset.load(tmp_path / "one", "train").references()[:6] != ["no"] * 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_takes": 6}, "leaves nothing for"),
        ({"takes": 6}, r"datasets\.digits\.split\.takes: unknown key"),
    ],
)
def test_split_that_cannot_be_made_is_a_clear_error(raw: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises((ConfigError, ModelpressError), match=words):
        prepare_recordings(raw, tmp_path / "out", {**SPLIT, **change})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("go left_ann_7.wav", wav_bytes(np.ones(9, np.int16), 8000), "not named .*without blanks"),
        ("hello.wav", wav_bytes(np.ones(9, np.int16), 8000), "not named"),
        ("no_ann_7.wav", wav_bytes(np.ones(9, np.int16), 16000), "16000 samples a second, others have 8000"),
        ("no_ann_7.wav", b"text", "not a WAV file"),
    ],
)
def test_recording_that_does_not_fit_is_named(raw: Path, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (raw / "recordings" / name).write_bytes(content)
    with pytest.raises(ModelpressError, match=words) as raised:
        prepare_recordings(raw, tmp_path / "out", SPLIT)
    assert name in str(raised.value)


@pytest.fixture
def dataset(raw: Path, tmp_path: Path) -> SoundDataset:
    prepare_recordings(raw, tmp_path / "out", SPLIT)
    return SoundDataset.load(tmp_path / "out", "train")


def test_batch_holds_every_sample_and_silence_behind_it(dataset: SoundDataset) -> None:
    samples, lengths, classes, heard = dataset.collate([dataset[0], dataset[1]])
    for row in (0, 1):
        np.testing.assert_array_equal(samples[row, : lengths[row]], dataset.sounds[row])
        assert not samples[row, lengths[row] :].any()
    assert [dataset.labels[c] for c in classes] == dataset.references()[:2]
    assert heard[0] is samples


def test_inputs_give_the_recordings_back_and_silence_goes_behind_them(dataset: SoundDataset) -> None:
    np.testing.assert_array_equal(open_sound(dataset.inputs()[3], 8000), dataset.sounds[3])
    longer = dataset.with_silence(0.5)
    assert len(longer.sounds[3]) == len(dataset.sounds[3]) + 4000
    assert not longer.sounds[3][-4000:].any()
    assert longer.references() == dataset.references()


def test_answers_become_targets_and_datasets_join(dataset: SoundDataset) -> None:
    told = dataset.with_targets([{"label": "yes"}] * len(dataset))
    joined = dataset + told
    assert joined.references() == dataset.references() + ["yes"] * len(dataset)
    assert len(joined.lengths()) == len(joined) == 2 * len(dataset)


def test_nothing_asked_for_changes_nothing(dataset: SoundDataset) -> None:
    samples, lengths, _, _ = dataset.collate([dataset[i] for i in range(6)])
    heard, heard_lengths = augment(samples, lengths, Augmentation(), 8000)
    assert torch.equal(heard, samples)
    assert torch.equal(heard_lengths, lengths)


def test_augmentation_moves_lengths_within_its_limits_and_leaves_the_padding_silent(dataset: SoundDataset) -> None:
    torch.manual_seed(0)
    samples, lengths, _, _ = dataset.collate([dataset[i] for i in range(6)])
    config = Augmentation(speed=0.2, noise=0.1, silence_s=0.5)
    for _ in range(20):
        heard, heard_lengths = augment(samples, lengths, config, 8000)
        assert heard.dtype == torch.int16
        assert (heard_lengths >= lengths / 1.21 - 1).all()
        assert (heard_lengths <= lengths / 0.79 + 4001).all()
        for row, length in zip(heard, heard_lengths, strict=True):
            assert not row[length:].any()
            assert row[:length].any()


def test_another_speed_moves_the_pitch() -> None:
    tone = (9000 * torch.sin(torch.arange(4000) / 8000 * 2 * torch.pi * 400)).to(torch.int16)[None]
    torch.manual_seed(1)
    heard, length = augment(tone, torch.tensor([4000]), Augmentation(speed=0.5), 8000)
    pitch = torch.fft.rfft(heard[0, : length[0]].float()).abs().argmax() * 8000 / length[0]
    assert float(pitch) == pytest.approx(400 * 4000 / int(length[0]), rel=0.02)
    assert abs(int(length[0]) - 4000) > 100
