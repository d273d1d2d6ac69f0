"""Text becomes numbered words in pieces; questions are asked where their words were learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.data.readers.word_questions import read_pairs, read_syntactic
from components.data.word_dataset import WordDataset, number_words, prepare_words, read_counts

SPLIT: dict[str, Any] = {
    "text": ["books"],
    "dev": {"rated": "rated.txt"},
    "test": {"rated": "rated.txt"},
    "analogies": "analogies.txt",
    "held_out": 0.2,
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "books").mkdir(parents=True)
    (folder / "books" / "a.md").write_text("one two three four rare\n" + "one two three four\n" * 200, encoding="utf-8")
    (folder / "rated.txt").write_text("# two words and a rating\nOne two 3.5\none rare 2\n", encoding="utf-8")
    (folder / "analogies.txt").write_text(": capitals\na b c d\n: gram1\none two three four\n", encoding="utf-8")
    return folder


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef")), min_size=1), st.integers(1, 4))
def test_numbers_lead_back_to_the_words_that_are_frequent_enough(documents: list[list[str]], least: int) -> None:
    words, texts = number_words(documents, least)
    flat = [word for document in documents for word in document]
    assert set(words) == {word for word in flat if flat.count(word) >= least}
    assert [flat.count(word) for word in words] == sorted((flat.count(word) for word in words), reverse=True)
    for document, ids in zip(documents, texts, strict=True):
        assert [words[i] for i in ids] == [word for word in document if word in words]


def test_every_word_of_the_text_is_in_one_split_and_rare_ones_in_none(raw: Path, tmp_path: Path) -> None:
    facts = prepare_words(raw, tmp_path / "out", SPLIT, 5, 16, ["two"])
    train, dev = (WordDataset.load(tmp_path / "out", split) for split in ("train", "dev"))
    assert facts["text"]["train"] + facts["text"]["dev"] == 4 * 201
    assert (train.text >= 0).sum() == facts["text"]["train"] == int(read_counts(tmp_path / "out").sum())
    assert facts["questions"]["dev"] == {"rated": "1 of 2"}, "one asks for a word that is too rare"
    assert len(dev) == len(dev.inputs()) == 1
    assert (dev.text >= 0).all()


def test_test_asks_ratings_and_syntactic_analogies_behind_the_words_shown(raw: Path, tmp_path: Path) -> None:
    prepare_words(raw, tmp_path / "out", SPLIT, 5, 16, ["two"])
    test = WordDataset.load(tmp_path / "out", "test")
    assert test.inputs()[0] == "two"
    asked = zip(test.inputs()[1:], test.references()[1:], strict=True)
    assert sorted(asked, key=str) == [("one ~ two", 3.5), ("two - one + three", "four")]


def test_too_little_held_out_text_is_told(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match="0 words held out for 1 questions"):
        prepare_words(raw, tmp_path / "out", {**SPLIT, "held_out": 1e-9}, 5, 16, [])


@pytest.mark.parametrize("line", ["one two", "one two three", "a b 1 2"])
def test_a_line_that_is_no_rated_pair_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.txt").write_text(f"a b 1\n{line}\n", encoding="utf-8")
    with pytest.raises(ModelpressError, match=r"x\.txt:2: .* is not two words and a rating"):
        read_pairs(tmp_path / "x.txt", "x")


def test_an_analogy_of_three_words_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(": gram\na b c\n", encoding="utf-8")
    with pytest.raises(ModelpressError, match=r"x\.txt:2: 'a b c' is not four words"):
        read_syntactic(tmp_path / "x.txt", "x")


def test_batches_are_the_rows_themselves() -> None:
    data = WordDataset(np.array([[1, 2], [3, -1]], np.int32), [])
    np.testing.assert_array_equal(data.collate([data[1], data[0]]).numpy(), [[3, -1], [1, 2]])
