"""Sizes, durations and shares from the command line."""

from __future__ import annotations

import pytest

from components.core.errors import ModelpressError
from pipelines.quantities import parse_duration, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("300KB", 300e3), ("300 kb", 300e3), ("1.5MB", 1.5e6), (".5MiB", 2**19), ("12B", 12), ("2gb", 2e9)],
)
def test_a_size_is_a_number_with_its_unit(text: str, size: float) -> None:
    assert parse_size(text, "--max-size") == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5ms", 1.5e-3), ("250us", 250e-6), ("250 µs", 250e-6), ("2 s", 2), ("30min", 1800)]
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text, "--max-p50") == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "share"), [("0.99", 0.99), ("99%", 0.99), ("1.01", 1.01), ("0", 0)])
def test_a_share_is_a_number_or_per_cent(text: str, share: float) -> None:
    assert parse_share(text, "--min-quality") == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("300", "--max-size 300: without a unit; write e.g. 300KB (units: B, KB, MB, GB, KiB, MiB, GiB)"),
        ("300KBB", "--max-size 300KBB: 'KBB' is no unit of size, did you mean KB?"),
        ("300ms", "--max-size 300ms: 'ms' is no unit of size; known: B, GB, GiB, KB, KiB, MB, MiB"),
        ("small", "--max-size small: no size; write a number with its unit, e.g. 300KB"),
        ("-3KB", "--max-size -3KB: no size; write a number with its unit, e.g. 300KB"),
        ("0KB", "--max-size 0KB: must be above zero"),
    ],
)
def test_an_unreadable_size_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ModelpressError) as error:
        parse_size(text, "--max-size")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99", "--min-quality 99: no share between 0 and 2, did you mean 99%?"),
        ("-1", "--min-quality -1: no share between 0 and 2"),
        ("nan", "--min-quality nan: no share between 0 and 2"),
        ("good", "--min-quality good: no share; write e.g. 0.99 or 99%"),
    ],
)
def test_an_unreadable_share_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ModelpressError) as error:
        parse_share(text, "--min-quality")
    assert str(error.value) == message
