"""Sizes, durations and shares as people write them: `300KB`, `1.5ms`, `0.99` or `99%`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.core.errors import ModelpressError, did_you_mean

BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
HIGHEST_SHARE = 2.0  # a student may beat its teacher, but not by this much


def parse_size(text: str, option: str) -> float:
    """Return bytes; KB is 10^3 of them, KiB 2^10.

    Raises:
        ModelpressError: no number above zero, or no unit.
    """
    return _parse(text, option, BYTES, "size", "300KB")


def parse_duration(text: str, option: str) -> float:
    """Return seconds.

    Raises:
        ModelpressError: no number above zero, or no unit.
    """
    return _parse(text, option, SECONDS, "duration", "1.5ms")


def parse_share(text: str, option: str) -> float:
    """Return a share of one, written as it is or in per cent.

    Raises:
        ModelpressError: no number, or one that no share of a teacher's quality can be.
    """
    number, per_cent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if per_cent else 1)
    except ValueError:
        raise ModelpressError(f"{option} {text}: no share; write e.g. 0.99 or 99%") from None
    if not 0 <= share <= HIGHEST_SHARE:
        meant = f", did you mean {number}%?" if not per_cent and 0 < share <= 100 * HIGHEST_SHARE else ""
        raise ModelpressError(f"{option} {text}: no share between 0 and {HIGHEST_SHARE:g}{meant}")
    return share


def _parse(text: str, option: str, units: Mapping[str, float], what: str, example: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(\D*?)\s*", text)
    if not found:
        raise ModelpressError(f"{option} {text}: no {what}; write a number with its unit, e.g. {example}")
    number, unit = float(found[1]), found[2]
    if not unit:
        raise ModelpressError(f"{option} {text}: without a unit; write e.g. {example} (units: {', '.join(units)})")
    known = {name.lower(): factor for name, factor in units.items()}
    if unit.lower() not in known:
        raise ModelpressError(f"{option} {text}: {unit!r} is no unit of {what}{did_you_mean(unit, units)}")
    if number == 0:
        raise ModelpressError(f"{option} {text}: must be above zero")
    return number * known[unit.lower()]
