"""A classifier's confusion matrix: how many examples of one class it took for another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from components.evaluation.charts.axes import CHARACTER, number, picture, text

CELL, SLOPE = 44, 40  # pixels; degrees of the columns' labels


def confusion(labels: Sequence[str], references: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Return int64 (C, C): how many examples of class i were labelled j."""
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([place[label] for label in references], [place[label] for label in answers]), 1)
    return counts


def mix_ups(references: Sequence[str], answers: Sequence[str]) -> str:
    """Return the chart of all labels that occur, in their order."""
    labels = sorted({*references, *answers})
    return confusion_chart(labels, confusion(labels, references, answers))


def confusion_chart(labels: Sequence[str], counts: np.ndarray) -> str:
    """Return the matrix as SVG: the darker a cell off the diagonal, the larger its share of its row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    worst = max(float((shares - np.diag(np.diag(shares))).max()), 1e-9)
    longest = CHARACTER * max(map(len, labels))
    along, up = (longest * turn(math.radians(SLOPE)) for turn in (math.cos, math.sin))
    left, top = longest + 14, up + 24
    marks = []
    for row, label in enumerate(labels):
        y = top + row * CELL
        marks.append(text(left - 10, y + CELL / 2 + 4, label, "tick", "end"))
        x = left + row * CELL + CELL / 2
        place = f"translate({number(x)} {number(top - 10)}) rotate(-{SLOPE})"
        marks.append(f'<g transform="{place}">{text(0, 0, label, "tick")}</g>')
        for column in range(len(labels)):
            marks.append(_cell(left + column * CELL, y, counts[row, column], shares[row, column], worst, row == column))
    size = len(labels) * CELL
    width = left + size - CELL / 2 + max(along, CELL / 2)
    return picture(round(width), round(top + size + 10), marks, "confusion matrix")


def _cell(x: float, y: float, count: int, share: float, worst: float, right: bool) -> str:
    colour, opacity = ("var(--bubble)", 0.16) if right else ("var(--accent)", 0.85 * share / worst)
    side = CELL - 2
    place = f'x="{number(x)}" y="{number(y)}" width="{side}" height="{side}"'
    box = f'<rect {place} rx="4" fill="{colour}" fill-opacity="{opacity:.3f}"/>'
    if not count:
        return box
    kind = "label" if right or share > worst / 2 else "tick"  # grey is not seen on a dark cell
    return box + text(x + CELL / 2 - 1, y + CELL / 2 + 4, f"{count:,}", kind, "middle")
