"""The pictures of a blank-filler: every guess is drawn, and accuracy is told apart by how frequent words are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from components.data.passages import Passages, prepare_passages
from components.evaluation.pictures import task_pictures


class Knows:
    """Fills every blank right, by the words in brackets."""

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        found = [re.findall(r"\[(.+?)\]", text) for text in inputs]
        return [{"blanks": [{word: 0.9, "<b>": 0.1} for word in row], "asked": [0.9] * len(row)} for row in found]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Passages:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "raw" / "books").mkdir(parents=True)
    words = " ".join(f"the cat{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400))
    for name in "abcdef":
        (folder / "raw" / "books" / f"{name}.md").write_text(words, encoding="utf-8")
    split, shown = {"text": ["books"]}, ["The [cataa] of the catba"]
    prepare_passages(folder / "raw", folder / "out", split, vocabulary=300, every=3, shown=shown)
    return Passages.load(folder / "out", "test")


def test_blanks_show_the_models_words_beside_those_of_the_counts(examples: Passages) -> None:
    filled, knows = task_pictures("masked_language_model", Knows(), examples, None)
    assert "The [cataa] of the catba" in filled.body
    assert "cataa 90%" in filled.body
    assert "&lt;b&gt; 10%" in filled.body
    assert "<b>" not in filled.body
    for svg in (re.sub(r"</?div[^>]*>", "", filled.body), knows.body):
        assert ET.fromstring(svg).tag.endswith("svg")


def test_accuracy_is_that_of_all_counted_blanks_and_of_each_range_of_ranks(examples: Passages) -> None:
    _, knows = task_pictures("masked_language_model", Knows(), examples, None)
    count = int(examples.counted().sum())
    assert f"{count:,} hidden words" in knows.caption
    assert "the chosen variant 100.0%" in knows.caption
    assert sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) blanks<", knows.body)) == count
    assert knows.body.count("the chosen variant: 100.0%") == len(re.findall(r"blanks<", knows.body))
