"""Books in Markdown, a piece of a MediaWiki dump and WikiText files -> documents of plain English words.

A file's format is told by the end of its name, see READERS_BY_END.
"""

from __future__ import annotations

import bz2
import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from components.core.errors import ModelpressError
from components.data.readers.text_lines import read_lines
from components.inference.english_words import words


def read_documents(folder: Path) -> Iterator[list[str]]:
    """Yield the words of each book and article below a folder, in the order of the files' paths.

    Raises:
        ModelpressError: no such file there, or one that can't be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in READERS_BY_END)
    if not paths:
        raise ModelpressError(f"{folder}: no text ({', '.join(READERS_BY_END)}) in it; fetch the dataset again")
    for path in paths:
        for text in READERS_BY_END[path.suffix](path):
            if found := words(text):
                yield found


def _markdown(path: Path) -> Iterator[str]:
    """Yield a book without its headings; emphasis marks part no word, since none stands inside one."""
    yield "\n".join(line for line in read_lines(path) if not line.startswith("#"))


def _wikitext(path: Path) -> Iterator[str]:
    """Yield the articles of WikiText (Merity et al. 2017): `= Title =` begins one, `<unk>` stands for a rare word."""
    article: list[str] = []
    for line in read_lines(path):
        if re.fullmatch(r" = [^=].* = ", line):
            yield "\n".join(article)
            article = []
        elif not line.startswith(" ="):
            # tokenized upstream: "red @-@ tipped", "do n't", "lobster 's"
            article.append(re.sub(r" (n't|'\w+)\b", r"\1", line.replace("<unk>", " ").replace(" @-@ ", "-")))
    yield "\n".join(article)


def _dump(path: Path) -> Iterator[str]:
    """Yield the articles of a bzip2-compressed MediaWiki export, without redirects and without markup.

    Raises:
        ModelpressError: not such a file.
    """
    try:
        with bz2.open(path) as file:
            for _, element in ElementTree.iterparse(file):
                if element.tag.endswith("}text") and not (element.text or "#redirect").lower().startswith("#redirect"):
                    yield plain_text(element.text or "")
                element.clear()
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise ModelpressError(f"{path}: no MediaWiki export in bzip2 ({error}); fetch the dataset again") from None


_INNERMOST = re.compile(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}")  # templates and tables
_DROPPED = re.compile(r"<!--.*?-->|<ref[^>]*/>|<(ref|math|gallery|code|source|timeline)\b[^>]*>.*?</\1>", re.S | re.I)
_FILE_LINK = re.compile(r"\[\[(?:file|image|category|[a-z-]{2,12}):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.I)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]")
_ADDRESS = re.compile(r"\[?https?://\S+")
_TAG = re.compile(r"<[^>]*>")
_LAST_SECTIONS = re.compile(
    r"^==\s*(?:references|external links|further reading|notes|see also)\s*==.*", re.S | re.M | re.I
)


def plain_text(markup: str) -> str:
    """Return an article's running text: about what MediaWiki shows, without tables, notes and lists of sources."""
    text = _DROPPED.sub(" ", markup)
    found = 1
    while found:  # they nest
        text, found = _INNERMOST.subn(" ", text)
    text = _LAST_SECTIONS.sub(" ", _FILE_LINK.sub(" ", text))
    text = _TAG.sub(" ", _ADDRESS.sub(" ", _LINK.sub(r"\1", text)))
    return html.unescape(text.replace("''", ""))


READERS_BY_END: Mapping[str, Callable[[Path], Iterator[str]]] = {".md": _markdown, ".bz2": _dump, ".txt": _wikitext}
