"""Readers: raw files -> sentence pairs in three splits. One module a format, named as `datasets.<name>.split.reader`.

A reader module has `Split`, its parameters, and `read(raw, split)`, which returns {"train", "dev", "test"}. The readers
of pictures lie here too; components/data/image_dataset.py names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.config import Config, parse_config
from components.core.errors import ConfigError, did_you_mean
from components.data.readers import parallel_text, tatoeba

Pair = tuple[str, str]  # source sentence (English), target sentence (Japanese)

READERS: Mapping[str, Any] = {"parallel_text": parallel_text, "tatoeba": tatoeba}


def read_pairs(raw: Path, split: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Return the "train", "dev" and "test" pairs of a raw folder, read as `datasets.<folder's name>.split` says.

    Raises:
        ConfigError: unknown reader, or a parameter it doesn't know or accept.
        ModelpressError: a raw file that is missing or malformed, or too few pairs.
    """
    reader, parameters = choose_reader(READERS, split, f"datasets.{raw.name}.split")
    pairs: dict[str, list[Pair]] = reader.read(raw, parameters)
    return pairs


def choose_reader(readers: Mapping[str, Any], split: Mapping[str, Any], where: str) -> tuple[Any, Config]:
    """Return the reader that a split names, and the split as its parameters.

    Raises:
        ConfigError: unknown reader, or a parameter it doesn't know or accept.
    """
    name = split.get("reader")
    if not isinstance(name, str) or name not in readers:
        raise ConfigError([f"{where}.reader: no such reader {name!r}{did_you_mean(str(name), readers)}"])
    return readers[name], parse_config(readers[name].Split, dict(split), where)
