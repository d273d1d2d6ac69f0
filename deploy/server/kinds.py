"""What JSON values are, in words: a model is asked for what its golden inputs are and nothing else."""

from __future__ import annotations

from typing import Any

DATA_URL = "a data URL (data:TYPE;base64,...)"
_KINDS = ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if isinstance(value, str) and value.startswith("data:"):
        return DATA_URL
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
