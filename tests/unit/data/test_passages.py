"""Held-out passages share no document with train, blanks are fixed, and the counts guess what Bayes says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import ModelpressError
from components.data.neighbour_counts import NeighbourCounts
from components.data.passages import BLANKS, NO_BLANK, Passages, prepare_passages, read_unigram, split_documents
from components.inference.masked_language_model import FIRST_WORD, LONGEST, MASK
from components.inference.tokenizers import PAD, UNK

SPLIT = {"text": ["books"], "dev": {"toy": "pairs.txt"}, "analogies": "of-another-task.txt", "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine books of 1,000 words each: "w", the book's own letter, and one of 20 more letters pairs."""
    folder = tmp_path_factory.mktemp("passages")
    rng = np.random.default_rng(0)
    (folder / "raw" / "books").mkdir(parents=True)
    for book in "abcdefghi":
        text = " ".join(f"only{book} {chr(97 + int(n))}x" for n in rng.integers(0, 20, 500))
        (folder / "raw" / "books" / f"{book}.md").write_text(text, encoding="utf-8")
    (folder / "raw" / "pairs.txt").write_text("ax bx 7.5\n", encoding="utf-8")
    prepare_passages(
        folder / "raw", folder / "out", SPLIT, vocabulary=60, every=3, shown=["A [word] not learnt", "The [ax] fell"]
    )
    return folder / "out"


def test_held_out_documents_are_whole_and_long_and_short_ones_in_proportion() -> None:
    documents = [[str(number)] * (number + 1) for number in range(60)]
    parts = split_documents(documents, every=20)
    assert {name: len(part) for name, part in parts.items()} == {"train": 54, "dev": 3, "test": 3}
    assert sorted(word for part in parts.values() for document in part for word in set(document)) == sorted(
        map(str, range(60))
    )
    for name in ("dev", "test"):
        thirds = [len(document) // 20 for document in parts[name]]
        assert sorted(thirds) == [0, 1, 2]


def test_words_of_held_out_books_alone_are_unknown(root: Path) -> None:
    train, dev = Passages.load(root, "train"), Passages.load(root, "dev")
    assert not (train.words == UNK).any()
    assert (dev.words == UNK).sum() > len(dev) * LONGEST // 3


def test_blanks_hide_known_words_and_are_no_more_and_no_fewer_than_15_per_cent(root: Path) -> None:
    dev = Passages.load(root, "dev")
    assert (dev.blank >= 0).all()
    assert dev.blank.shape[1] == BLANKS == 10
    assert all(len(set(row)) == BLANKS for row in dev.blank.tolist())
    assert (dev.hidden_words() >= FIRST_WORD).all()
    assert dev.counted().all()


def test_texts_bracket_the_words_that_the_arrays_hide(root: Path) -> None:
    dev = Passages.load(root, "dev")
    for text, blank_B, word_B in zip(dev.texts, dev.blank, dev.hidden_words(), strict=True):
        bracketed = {i: word[1:-1] for i, word in enumerate(text.split()) if word.startswith("[")}
        assert sorted(bracketed) == sorted(blank_B.tolist())
        assert [bracketed[i] for i in blank_B] == [dev.tokenizer.piece(int(word)) for word in word_B]
    assert "[" not in dev.references()[0]


def test_shown_sentences_whose_words_are_known_come_first_in_test_and_are_not_counted(root: Path) -> None:
    test = Passages.load(root, "test")
    assert (test.shown, test.texts[0]) == (1, "The [ax] fell")
    assert test.blank[0].tolist() == [1, *[NO_BLANK] * (BLANKS - 1)]
    assert not test.counted()[0].any()
    assert test.counted()[1:].all()
    assert test.pairs == {}
    assert Passages.load(root, "dev").pairs == {"toy": [["ax", "bx", 7.5]]}


def test_collate_masks_the_blanks_alone_and_marks_what_is_no_blank(root: Path) -> None:
    test = Passages.load(root, "test")
    words, seen, blank, word = (part.numpy() for part in test.collate([test[0], test[1]]))
    assert np.argwhere(seen[0] == MASK).tolist() == [[1]]
    assert sorted(np.flatnonzero(seen[1] == MASK)) == sorted(blank[1])
    assert (seen == words)[seen != MASK].all()
    assert word[0, 1:].tolist() == [NO_BLANK] * (BLANKS - 1)
    np.testing.assert_array_equal(word[1], words[1][blank[1]])


def test_baselines_guess_from_train_and_see_no_hidden_word(root: Path) -> None:
    dev = Passages.load(root, "dev")
    unigram = read_unigram(root).numpy()
    assert unigram.sum() == pytest.approx(1)
    assert (dev.guesses["unigram_word"][:, :, 0] == unigram.argmax()).all()
    np.testing.assert_allclose(dev.guesses["unigram_right"], unigram[dev.hidden_words()], rtol=1e-6)
    for name in ("unigram", "bigram"):
        assert (np.diff(dev.guesses[f"{name}_probability"], axis=-1) <= 0).all()


def test_too_little_held_out_text_is_refused_with_the_dataset_named(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for name in "abc":
        (tmp_path / "books" / f"{name}.md").write_text("few words", encoding="utf-8")
    with pytest.raises(ModelpressError, match=rf"datasets\.{tmp_path.name}: no passage of 64 words"):
        prepare_passages(tmp_path, tmp_path / "out", {"text": ["books"]}, vocabulary=20, every=3, shown=[])


def test_neighbours_multiply_what_each_says() -> None:
    a, b, x, y = range(FIRST_WORD, FIRST_WORD + 4)
    counts = NeighbourCounts([np.array([a, x, b, a, x, b, a, y, b, UNK, y, PAD])], FIRST_WORD + 4, FIRST_WORD)
    p = counts.unigram_V
    assert p[[a, b, x, y]].tolist() == pytest.approx([0.3, 0.3, 0.2, 0.2])
    assert p[:FIRST_WORD].tolist() == [0] * FIRST_WORD
    np.testing.assert_allclose(counts.between(None, None), p)
    # behind a stood x twice and y once: two different words, so Witten and Bell leave 2 / 5 to the unigram
    after_a = 0.4 * p
    after_a[[x, y]] += [2 / 5, 1 / 5]
    np.testing.assert_allclose(counts.between(a, None), after_a)
    before_b = 0.4 * p
    before_b[[x, y]] += [2 / 5, 1 / 5]
    both = np.divide(after_a * before_b, p, out=np.zeros_like(p), where=p > 0)
    np.testing.assert_allclose(counts.between(a, b), both / both.sum())
    np.testing.assert_allclose(counts.between(UNK, None)[y], (1 + p[y]) / 2)  # an unknown word is a neighbour too
    np.testing.assert_allclose(counts.between(None, PAD)[y], (1 + p[y]) / 2)
