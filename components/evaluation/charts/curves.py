"""Training curves as small pictures: one for each quantity a model's log has by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluation.charts.axes import CHARACTER, Scale, compact, grid, number, padded, picture, polyline

WIDTH, HEIGHT = 340, 190
MOST_POINTS = 240
FEW_POINTS = 24  # so few that each is worth a dot
WIDE = 1e3  # values this far apart go on a logarithmic axis: an exploding gradient, a loss near zero
SPLITS = ("train", "dev", "val", "test")
POSITIONS = ("step", "epoch")

STYLE = """.curve{fill:none;stroke-width:1.75;stroke-linejoin:round}.curve.s0{stroke:var(--bubble)}
.curve.s1{stroke:var(--accent)}.curve.s2{stroke:var(--ink)}
.dot.s0{fill:var(--bubble)}.dot.s1{fill:var(--accent)}.dot.s2{fill:var(--ink)}"""


@dataclass(frozen=True)
class Series:
    """A column of a log: (step, value) where it has a value."""

    name: str
    points: tuple[tuple[float, float], ...]
    kind: str

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True)
class CurveChart:
    """The curves of one quantity (e.g. loss, on train and dev)."""

    quantity: str
    series: tuple[Series, ...]
    svg: str


def curve_charts(rows: Sequence[Mapping[str, Any]]) -> list[CurveChart]:
    """Return a chart for each quantity in a log's rows; train_loss and dev_loss share one, losses come first."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in POSITIONS))
    quantities = sorted(dict.fromkeys(_quantity(name) for name in names), key=lambda name: "loss" not in name)
    charts = []
    for quantity in quantities:
        series = _series(rows, [name for name in names if _quantity(name) == quantity])
        if series:
            charts.append(CurveChart(quantity.replace("_", " "), series, _draw(quantity, series)))
    return charts


def _quantity(name: str) -> str:
    split, _, rest = name.partition("_")
    return rest if split in SPLITS and rest else name


def _series(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[Series, ...]:
    found = []
    for name in names:
        points = [(float(row["step"]), value) for row in rows if (value := _value(row.get(name))) is not None]
        if points:
            kind = f"s{1 if len(names) == 1 or not name.startswith('train') else 0}"
            found.append(Series(name.replace("_", " "), tuple(_thinned(points)), kind))
    return tuple(found)


def _value(value: Any) -> float | None:
    try:
        number_found = float(value)
    except (TypeError, ValueError):  # an empty cell, or words
        return None
    return number_found if math.isfinite(number_found) else None


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most about MOST_POINTS points, each the mean of its neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _draw(quantity: str, series: Sequence[Series]) -> str:
    steps = [step for line in series for step, _ in line.points]
    values = [value for line in series for _, value in line.points]
    if min(values) > 0 and max(values) / min(values) > WIDE:
        y = Scale(min(values) / 1.5, max(values) * 1.5, HEIGHT - 28, 8, logarithmic=True)
    else:
        y = Scale(*padded(values, 0.06), HEIGHT - 28, 8)
    ticks = y.ticks(4)
    left = max(44.0, 10 + CHARACTER * max((len(compact(tick)) for tick in ticks), default=0))
    x = Scale(min(0.0, *steps), max(steps) or 1.0, left, WIDTH - 16)
    marks = grid(x, y, x.ticks(5), ticks)
    for line in series:
        points = [(x(step), y(value)) for step, value in line.points]
        marks.append(polyline(points, f"curve {line.kind}"))
        if len(points) <= FEW_POINTS:
            marks += [f'<circle cx="{number(a)}" cy="{number(b)}" r="2.6" class="dot {line.kind}"/>' for a, b in points]
    return picture(WIDTH, HEIGHT, marks, f"{quantity} by step")
