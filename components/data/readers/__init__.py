"""Readers: raw files -> sentence pairs in three splits. One module a format, named as `datasets.<name>.split.reader`.

A reader module has `Split`, its parameters, and `read(raw, split)`, which returns {"train", "dev", "test"}. The readers
of pictures lie here too; components/data/image_dataset.py names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import ConfigError, did_you_mean
from components.core.params import parse_config
from components.data.readers import parallel_text, tatoeba

Pair = tuple[str, str]  # source sentence (English), target sentence (Japanese)

READERS: Mapping[str, Any] = {"parallel_text": parallel_text, "tatoeba": tatoeba}


def read_pairs(raw: Path, split: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Return the "train", "dev" and "test" pairs of a raw folder, read as `datasets.<folder's name>.split` says.

    Raises:
        ConfigError: unknown reader, or a parameter it doesn't know or accept.
        ModelpressError: a raw file that is missing or malformed, or too few pairs.
    """
    where = f"datasets.{raw.name}.split"
    name = split.get("reader")
    if not isinstance(name, str) or name not in READERS:
        raise ConfigError([f"{where}.reader: no such reader {name!r}{did_you_mean(str(name), READERS)}"])
    reader = READERS[name]
    pairs: dict[str, list[Pair]] = reader.read(raw, parse_config(reader.Split, dict(split), where))
    return pairs
