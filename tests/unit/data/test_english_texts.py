"""Books, articles and dumps become words, and nothing of their markup does."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from components.data.readers.english_texts import plain_text, read_documents, words

PAGE = "<page><title>{}</title><revision><text>{}</text></revision></page>"
DUMP = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{}</mediawiki>'


def test_words_are_letters_with_apostrophes_inside() -> None:
    assert words("Don’t _stop_ 3 well-known 'Cats'!") == ["don't", "stop", "well", "known", "cats"]


def test_markdown_headings_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text("# Title\n\nOne *two*.\n", encoding="utf-8")
    assert list(read_documents(tmp_path)) == [["one", "two"]]


def test_wikitext_is_cut_into_articles_and_unknown_words_are_left_out(tmp_path: Path) -> None:
    lines = [" ", " = First = ", " ", " a <unk> cat 's red @-@ tipped tail ", " = = Part = = ", " = Second = ", " b "]
    (tmp_path / "part.txt").write_text("\n".join(lines), encoding="utf-8")
    assert list(read_documents(tmp_path)) == [["a", "cat's", "red", "tipped", "tail"], ["b"]]


def test_dump_gives_articles_without_redirects(tmp_path: Path) -> None:
    pages = PAGE.format("A", "#REDIRECT [[B]]") + PAGE.format("B", "'''Bees''' fly.")
    (tmp_path / "dump.bz2").write_bytes(bz2.compress(DUMP.format(pages).encode()))
    assert list(read_documents(tmp_path)) == [["bees", "fly"]]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("a {{cite|{{inner}} x}} b", "a b"),
        ("a {| class=x\n| cell\n|} b", "a b"),
        ("a<ref name=x>note</ref> b<ref name=x /> c", "a b c"),
        ("see [[House|the house]] and [[cat]]s", "see the house and cats"),
        ("a [[File:x.jpg|thumb|a [[cat]]]] b [[Category:Things]]", "a b"),
        ("a [http://x.org the site] b", "a the site b"),
        ("a &amp; b &mdash; c", "a b c"),
        ("text\n== References ==\n* a book", "text"),
    ],
)
def test_markup_leaves_the_running_text(markup: str, expected: str) -> None:
    assert " ".join(words(plain_text(markup))) == expected


@pytest.mark.parametrize("content", [b"plain", bz2.compress(b"<mediawiki><page>")[:-3], bz2.compress(b"<a><b></a>")])
def test_what_is_no_dump_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dump.bz2").write_bytes(content)
    with pytest.raises(ModelpressError, match=r"dump\.bz2: no MediaWiki export"):
        list(read_documents(tmp_path))


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match="no text"):
        list(read_documents(tmp_path))
