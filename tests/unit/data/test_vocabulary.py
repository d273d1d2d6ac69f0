from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.data.vocabulary import train_sentencepiece, train_words
from components.inference.tokenizers import UNK, load_tokenizer

ENGLISH = [
    f"the {size} {colour} cat sees {number} birds"
    for size in ("big", "small")
    for colour in ("red", "blue")
    for number in range(9)
]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_train_sentencepiece_writes_same_bytes_when_run_twice(
    tmp_path: Path, model_type: Literal["unigram", "bpe"]
) -> None:
    for name in ("a", "b"):
        train_sentencepiece(iter(ENGLISH), tmp_path / f"{name}.model", 32, model_type)
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    assert len(load_tokenizer(tmp_path / "a.model")) == 32


@pytest.mark.parametrize(
    ("lines", "vocabulary", "problem"),
    [
        (ENGLISH, 10_000, r"x\.model: a vocabulary of 10,000 is too large for these sentences; set at most \d+"),
        (ENGLISH, 8, r"x\.model: a vocabulary of 8 can't hold the \d+ characters that occur"),
        ([], 100, r"x\.model: no sentences"),
        ([""], 100, r"x\.model: no sentences"),
    ],
)
def test_train_sentencepiece_fails_in_one_line_when_size_does_not_fit(
    tmp_path: Path, lines: list[str], vocabulary: int, problem: str
) -> None:
    with pytest.raises(ModelpressError, match=problem) as raised:
        train_sentencepiece(lines, tmp_path / "x.model", vocabulary)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_train_sentencepiece_keeps_rare_characters_of_an_alphabet_and_drops_rare_kanji(tmp_path: Path) -> None:
    train_sentencepiece([*ENGLISH * 50, "zebra 7"], tmp_path / "en.model", 30)
    assert UNK not in load_tokenizer(tmp_path / "en.model").encode("zebra")
    kanji = [chr(0x4E00 + number) for number in range(600)]
    train_sentencepiece(
        ["".join(kanji[at : at + 20]) for at in range(0, 600, 20)] * 40 + ["龍"], tmp_path / "ja.model", 605
    )
    assert UNK in load_tokenizer(tmp_path / "ja.model").encode("龍")
    assert UNK not in load_tokenizer(tmp_path / "ja.model").encode(kanji[0])


def test_train_words_orders_by_frequency_then_code_point(tmp_path: Path) -> None:
    train_words(["b a c", "c b", "rare <s> <s> <unk>", "a"], tmp_path / "words.txt", min_frequency=2)
    assert (tmp_path / "words.txt").read_text().split() == ["<pad>", "<unk>", "<s>", "</s>", "a", "b", "c"]


@given(lines=st.lists(st.text(max_size=30), max_size=20), min_frequency=st.integers(1, 3))
def test_train_words_makes_a_vocabulary_that_loads_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], min_frequency: int
) -> None:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    train_words(lines, path, min_frequency)
    tokenizer = load_tokenizer(path)
    if min_frequency == 1:
        assert all(tokenizer.decode(tokenizer.encode(line)) == " ".join(line.split()) for line in lines)
