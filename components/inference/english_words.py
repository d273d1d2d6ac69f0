"""What counts as an English word: a run of the letters a to z in lower case, with apostrophes inside it ("don't")."""

from __future__ import annotations

import re

WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text; all else parts them."""
    return WORD.findall(text.lower().replace("’", "'"))
