"""Which bits of a sum come out right, how far a carry is carried, and the hardest sums bit by bit."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from components.evaluation.charts.percent import percent_chart
from components.evaluation.pictures import Picture
from components.inference.binary_addition import bits_of

SHOWN = 8


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return accuracy by place and by the longest carry, and sums with their bits, on these examples."""
    answers = [int(text) for text in predictor.predict(examples.inputs())]
    sums = [a + b for a, b in examples.pairs]
    said_BT, sum_BT = (_bits(numbers, examples.bits) for numbers in (answers, sums))
    right_BT = said_BT == sum_BT
    exact_B = np.array([*map(int.__eq__, answers, sums)])  # a wrong answer may be longer than the bits shown
    carries = [longest_carry(a, b) for a, b in examples.pairs]
    by_carry: dict[int, list[bool]] = defaultdict(list)
    for carry, exact in zip(carries, exact_B, strict=True):
        by_carry[carry].append(bool(exact))
    hardest = sorted(range(len(carries)), key=lambda row: (bool(exact_B[row]), -carries[row], row))[:SHOWN]
    return [
        Picture(
            "Right by place",
            f"The share of test sums in which a bit is right, the lowest first: the network has to remember the carry "
            f"from place to place. {exact_B.sum():,} of {len(exact_B):,} sums are right in every bit.",
            percent_chart([(place, 100 * share) for place, share in enumerate(right_BT.mean(0))], "place of the bit"),
        ),
        Picture(
            "How far it carries",
            "The share of test sums that are right in every bit, by how many places in a row hand on a carry.",
            percent_chart(
                [(carry, 100 * float(np.mean(exact))) for carry, exact in sorted(by_carry.items())],
                "places in the longest carry",
            ),
        ),
        Picture(
            "The hardest, bit by bit",
            "Wrong sums first, then those with the longest carries; the highest bit stands left, a wrong bit in bold.",
            "\n".join(_sum(examples.pairs[row], said_BT[row], sum_BT[row]) for row in hardest),
        ),
    ]


def longest_carry(first: int, second: int) -> int:
    """Return the most places in a row that hand on a carry when two numbers are added."""
    longest = run = carry = 0
    while first or second or carry:
        carry = (first % 2 + second % 2 + carry) // 2
        run = run + 1 if carry else 0
        longest, first, second = max(longest, run), first // 2, second // 2
    return longest


def _bits(numbers: list[int], length: int) -> np.ndarray:
    """Return the bits of numbers, lowest first, uint8 (B, length); what a wrong answer has beyond is left out."""
    return bits_of([(number % 2**length, 0) for number in numbers], length)[:, :, 0]


def _sum(pair: tuple[int, int], said_T: np.ndarray, sum_T: np.ndarray) -> str:
    one, other = (f"{number:0{len(sum_T)}b}" for number in pair)
    said = "".join(
        str(bit) if bit == right else f'<b class="miss">{bit}</b>'
        for bit, right in zip(said_T[::-1], sum_T[::-1], strict=True)
    )
    return f"<pre>  {one}  {pair[0]:,}\n+ {other}  {pair[1]:,}\n= {said}</pre>"
