from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from components.core.errors import ModelpressError
from components.data.vocabulary import train_sentencepiece, train_words
from components.inference.tokenizers import BOS, EOS, PAD, UNK, SentencePieceTokenizer, WordTokenizer, load_tokenizer

LETTERS = "abcdefgh 猫犬がパー。、ＡＢｶﾞ①"
SENTENCES = [f"{one}{two} {three}" for one in LETTERS for two in LETTERS for three in LETTERS[:9]]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    path = tmp_path_factory.mktemp("pieces") / "toy.model"
    train_sentencepiece(SENTENCES, path, 60)
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordTokenizer:
    path = tmp_path_factory.mktemp("words") / "toy.txt"
    train_words(["the cat sees the dog ."], path, 1)
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


@given(text=st.text(LETTERS, max_size=30))
def test_pieces_decode_to_normalized_text_when_all_characters_are_known(
    pieces: SentencePieceTokenizer, text: str
) -> None:
    ids = pieces.encode(text)
    assert not {PAD, UNK, BOS, EOS} & set(ids)
    assert pieces.decode(ids) == pieces.normalize(text)


@given(text=st.text(max_size=30))
def test_pieces_encode_any_text_within_the_vocabulary(pieces: SentencePieceTokenizer, text: str) -> None:
    ids = pieces.encode(text)
    assert all(UNK <= number < len(pieces) and number not in (BOS, EOS) for number in ids)
    assert pieces.normalize(pieces.normalize(text)) == pieces.normalize(text)


def test_pieces_give_unk_when_a_character_was_never_seen(pieces: SentencePieceTokenizer) -> None:
    assert UNK in pieces.encode("cat 鬱")


def test_words_give_unk_when_unknown_or_spelled_like_a_special_token(words: WordTokenizer) -> None:
    assert words.encode("the bird </s> <pad>") == [4, UNK, UNK, UNK]
    assert words.decode([4, UNK]) == "the <unk>"


@given(tokens=st.lists(st.sampled_from(["the", "cat", "sees", "dog", "."])))
def test_words_round_trip_when_given_as_tokens_or_text(words: WordTokenizer, tokens: list[str]) -> None:
    assert words.encode(tokens) == words.encode("  ".join(tokens))
    assert words.decode(words.encode(tokens)) == " ".join(tokens)


@pytest.mark.parametrize("name", ["pieces", "words"])
def test_decode_stops_at_eos_and_drops_padding(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    text = "cat" if name == "words" else "abc"
    ids = tokenizer.encode(text)
    row = np.array([BOS, PAD, *ids, EOS, *ids, PAD], dtype=np.int64)
    assert tokenizer.decode(row) == text
    assert tokenizer.decode([]) == tokenizer.decode([EOS]) == ""


def test_load_fails_in_one_line_when_file_is_no_tokenizer(tmp_path: Path) -> None:
    contents = {
        "broken.model": (b"not a model", "not a SentencePiece model"),
        "bare.txt": (b"the\ncat\n", "doesn't begin with"),
        "twice.txt": (b"<pad>\n<unk>\n<s>\n</s>\nthe\nthe\n", "twice"),
        "bytes.txt": (b"\xff", "not UTF-8"),
        "vocab.json": (b"{}", "expected a .model"),
    }
    for name, (data, problem) in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelpressError) as raised:
            load_tokenizer(tmp_path / name)
        assert name in str(raised.value)
        assert problem in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelpressError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "none.model")


def test_load_fails_when_special_ids_are_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "foreign.model").open("wb") as file:
        SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=file, vocab_size=60, minloglevel=2)
    with pytest.raises(ModelpressError, match=r"foreign\.model: its pad, unk, bos, eos ids are \(-1, 0, 1, 2\)"):
        load_tokenizer(tmp_path / "foreign.model")


def test_tokenizers_need_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys, components.inference.tokenizers; print({'torch', 'pydantic', 'sentencepiece'} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
