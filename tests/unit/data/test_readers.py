from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError, ModelpressError
from components.data.readers import read_pairs

SPLIT = {"reader": "parallel_text"}


def parallel_folder(root: Path, **changes: bytes) -> Path:
    """Write six small files, some with other contents; `train_ja=b"..."` changes train.ja."""
    raw = root / "toy"
    raw.mkdir()
    for name in ("train", "dev", "test"):
        for language, text in (("en", f"{name} one .\n{name} two .\n"), ("ja", f"{name} 一 。\n{name} 二 。\n")):
            (raw / f"{name}.{language}").write_bytes(changes.get(f"{name}_{language}", text.encode()))
    return raw


def test_parallel_text_gives_pairs_in_order_when_files_are_well_formed(tmp_path: Path) -> None:
    pairs = read_pairs(parallel_folder(tmp_path, dev_en=b"\xef\xbb\xbfd 1\r\nd 2"), SPLIT)
    assert list(pairs) == ["train", "dev", "test"]
    assert pairs["train"] == [("train one .", "train 一 。"), ("train two .", "train 二 。")]
    assert pairs["dev"] == [("d 1", "dev 一 。"), ("d 2", "dev 二 。")]


def test_parallel_text_keeps_unusual_separators_inside_a_line(tmp_path: Path) -> None:
    raw = parallel_folder(tmp_path, dev_en="a\u2028b\nc\x0bd\n".encode())
    assert [source for source, _ in read_pairs(raw, SPLIT)["dev"]] == ["a\u2028b", "c\x0bd"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_ja": "一\n二\n三\n".encode()}, ["train.ja: 3 lines", "train.en has 2"]),
        ({"dev_en": b"one\n \n"}, ["dev.en:2: empty line"]),
        ({"test_ja": "一\n".encode() + b"\xff\n"}, ["test.ja:2: not UTF-8", "0xff"]),
        ({"test_en": b""}, ["test.en: empty file"]),
    ],
)
def test_parallel_text_fails_naming_file_and_line(tmp_path: Path, changes: dict[str, bytes], words: list[str]) -> None:
    with pytest.raises(ModelpressError) as raised:
        read_pairs(parallel_folder(tmp_path, **changes), SPLIT)
    text = str(raised.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text


def test_parallel_text_fails_when_a_file_is_missing(tmp_path: Path) -> None:
    raw = parallel_folder(tmp_path)
    (raw / "dev.ja").unlink()
    with pytest.raises(ModelpressError, match=r"dev\.ja: no such file"):
        read_pairs(raw, SPLIT)


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({"reader": "tatoebo"}, "datasets.toy.split.reader: no such reader 'tatoebo', did you mean tatoeba?"),
        ({}, "datasets.toy.split.reader: no such reader None; known: parallel_text, tatoeba"),
        ({"reader": "parallel_text", "seed": 1}, "datasets.toy.split.seed: unknown key; known: reader"),
    ],
)
def test_read_pairs_names_the_key_when_split_is_wrong(tmp_path: Path, split: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_pairs(tmp_path / "toy", split)
    assert raised.value.problems == [problem]


def test_read_pairs_reports_all_problems_at_once_when_split_has_several(tmp_path: Path) -> None:
    split = {"reader": "tatoeba", "train": 0, "dev": 1, "tset": 1, "max_words": 9}
    with pytest.raises(ConfigError) as raised:
        read_pairs(tmp_path / "toy", split)
    keys = {problem.split(":")[0] for problem in raised.value.problems}
    assert keys == {f"datasets.toy.split.{key}" for key in ("test", "train", "tset")}
