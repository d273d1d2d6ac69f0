"""Scales, ticks and marks of the report's charts: plain SVG whose colours are the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CHARACTER = 6.9  # mean width of a label's character in pixels, a little more than system fonts need


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end` (which may run backwards)."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._axis(self.low), self._axis(self.high)
        share = (self._axis(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _axis(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values inside the scale, about as many as wanted."""
        if self.logarithmic:
            lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            exponents = range(lowest, highest + 1, max(1, (highest - lowest) // wanted))
            digits = (1, 2, 5) if highest - lowest <= 3 else (1,)
            found = [digit * 10.0**power for power in exponents for digit in digits]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) >= 3:
                return inside
        step = _round_step((self.high - self.low) / wanted)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 10) for index in range(first, last + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)


def padded(values: Sequence[float], share: float) -> tuple[float, float]:
    """Return the range of the values, widened on both sides by a share of it (never empty)."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or share
    return low - room, high + room


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Return the area two rectangles share."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(across, 0) * max(down, 0)

    def area_outside(self, other: Box) -> float:
        """Return the area of this rectangle that lies outside another."""
        return self.width * self.height - self.overlap(other)


def number(value: float) -> str:
    """Return a coordinate, short and the same on every machine."""
    return f"{round(value, 1) + 0:g}"  # + 0: no "-0"


def compact(value: float) -> str:
    """Return a tick's text: 0.5, 20, 1.5k, 2e-3."""
    if 0 < abs(value) < 0.01:
        exponent = math.floor(math.log10(abs(value)))
        return f"{value / 10.0**exponent:g}e{exponent}"
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Return a text mark."""
    return f'<text x="{number(x)}" y="{number(y)}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line mark."""
    return f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{kind}"/>'


def polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return an open line through points."""
    return f'<polyline points="{" ".join(f"{number(x)},{number(y)}" for x, y in points)}" class="{kind}"/>'


def grid(x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
    """Return horizontal grid lines and the ticks' texts on both axes."""
    marks = [line(x.start, y(tick), x.end, y(tick), "grid") for tick in y_ticks]
    marks += [text(x.start - 8, y(tick) + 4, compact(tick), "tick", "end") for tick in y_ticks]
    marks += [text(x(tick), y.start + 18, compact(tick), "tick", "middle") for tick in x_ticks]
    return [*marks, line(x.start, y.start, x.end, y.start, "axis")]


def picture(width: int, height: int, marks: Sequence[str], title: str) -> str:
    """Return the marks as one SVG element that scales with its place on the page."""
    size = f'viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    return "\n".join([head, *marks, "</svg>"])
