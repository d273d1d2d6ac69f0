"""Percentages along a quantity: one line, each point with its figure."""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluation.charts.axes import Scale, grid, picture, polyline, text

WIDTH, HEIGHT = 560, 300  # pixels


def percent_chart(points: Sequence[tuple[float, float]], across: str) -> str:
    """Return (x, percent) points as SVG, each with its figure."""
    x = Scale(0.0, max(value for value, _ in points) * 1.04, 48, WIDTH - 24)
    lowest = min(percent for _, percent in points)
    y = Scale(0.0 if lowest < 80 else 80.0, 104.0 if lowest < 80 else 101.0, HEIGHT - 48, 16)
    marks = grid(x, y, x.ticks(6), [tick for tick in y.ticks(5) if tick <= 100])
    marks.append(polyline([(x(value), y(percent)) for value, percent in points], "curve s1"))
    for value, percent in points:
        marks.append(f'<circle cx="{x(value):.1f}" cy="{y(percent):.1f}" r="3" class="dot s1"/>')
        marks.append(text(x(value), y(percent) + 18, f"{percent:.1f}", "small", "middle"))
    marks.append(text(WIDTH - 24, HEIGHT - 8, f"{across} →", "name", "end"))
    return picture(WIDTH, HEIGHT, marks, f"accuracy in per cent by {across}")
