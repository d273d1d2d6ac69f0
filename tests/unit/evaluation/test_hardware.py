"""The machine in words."""

from __future__ import annotations

import pytest

from components.evaluation.hardware import describe, instructions


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse2 avx avx2 fma", ["AVX2"]),
        ("avx2 avx512f avx512_vnni avx512_bf16", ["AVX-512", "VNNI", "BF16"]),
        ("avx2 avx_vnni", ["AVX2", "VNNI"]),
        ("avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_tile amx_int8", ["AVX-512", "VNNI", "BF16", "AMX"]),
        ("fp asimd", []),
    ],
)
def test_what_products_are_computed_with_is_read_from_the_flags(flags: str, expected: list[str]) -> None:
    assert instructions(flags.split()) == expected


def test_a_machine_is_described_the_same_on_every_call() -> None:
    first = describe()
    assert first == describe()
    assert first["cpu"]
    assert not str(first["cpu"]).endswith(",")
