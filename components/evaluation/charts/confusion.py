"""A classifier's confusion matrix: how many examples of one class it took for another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.evaluation.charts.axes import picture, text

CELL, LEFT, TOP = 44, 130, 96  # pixels


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
    marks = []
    for row, label in enumerate(labels):
        y = TOP + row * CELL
        marks.append(text(LEFT - 10, y + CELL / 2 + 4, label, "tick", "end"))
        x = LEFT + row * CELL + CELL / 2
        marks.append(f'<g transform="translate({x:g} {TOP - 10}) rotate(-40)">{text(0, 0, label, "tick")}</g>')
        for column in range(len(labels)):
            marks.append(_cell(LEFT + column * CELL, y, counts[row, column], shares[row, column], worst, row == column))
    size = len(labels) * CELL
    return picture(LEFT + size + 90, TOP + size + 10, marks, "confusion matrix")


def _cell(x: float, y: float, count: int, share: float, worst: float, right: bool) -> str:
    colour, opacity = ("var(--bubble)", 0.16) if right else ("var(--accent)", 0.85 * share / worst)
    side = CELL - 2
    box = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="4" fill="{colour}" fill-opacity="{opacity:.3f}"/>'
    if not count:
        return box
    return box + text(x + CELL / 2 - 1, y + CELL / 2 + 4, f"{count:,}", "label" if right else "tick", "middle")
