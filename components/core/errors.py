"""The errors a user can cause: one clear line each, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ModelpressError(Exception):
    """A mistake outside the code: its text says what is wrong, where, and how to fix it."""


class ConfigError(ModelpressError):
    """Every problem found in a configuration, reported at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class ProofError(ModelpressError):
    """An exported variant disagrees with the model it came from: it must not be packaged."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean X?" for the closest known word, or the known words where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f", did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
