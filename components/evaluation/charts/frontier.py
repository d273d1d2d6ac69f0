"""The frontier plot: quality against latency, bubble area = size, the limits of the budget and the chosen variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from components.evaluation.charts.axes import CHARACTER, Box, Scale, grid, line, number, padded, picture, polyline, text
from components.evaluation.selection import floor_text, megabytes_text, p50_of, quality_of, quality_text

LABEL_HEIGHT = 30.0
LARGEST_RADIUS = 26.0
SMALLEST_RADIUS = 6.0

# The palette of the picture on its own, where there is no page to take the variables from.
STANDALONE_STYLE = """<style>
svg{--card:#fff;--ink:#1d1b18;--muted:#6f6a62;--line:#e4e0d8;--accent:#c2410c;--bubble:#8d877c;background:#fff;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
%s
</style>"""
STYLE = """.grid{stroke:var(--line)}.axis{stroke:var(--muted)}.tick,.name,.small{fill:var(--muted);font-size:12px}
.label,.small{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.label{fill:var(--ink);font-size:12.5px}.label.chosen{fill:var(--accent);font-weight:700}.small{font-size:11px}
.bubble{fill:var(--bubble);fill-opacity:.28;stroke:var(--bubble);stroke-width:1.25}
.bubble.chosen{fill:var(--accent);fill-opacity:.85;stroke:var(--accent)}
.whisker{stroke:var(--ink);stroke-opacity:.55}.leader{stroke:var(--muted);stroke-opacity:.6}
.frontier{fill:none;stroke:var(--muted);stroke-dasharray:2 4;stroke-width:1.25}
.budget{fill:var(--accent);fill-opacity:.055}.limit{stroke:var(--accent);stroke-opacity:.55;stroke-dasharray:5 4}
.limit-text{fill:var(--accent);font-size:11px}"""


@dataclass(frozen=True)
class Bubble:
    """A variant on the plot, in pixels."""

    row: Mapping[str, Any]
    x: float
    y: float
    radius: float
    chosen: bool

    @property
    def box(self) -> Box:
        return Box(self.x - self.radius, self.y - self.radius, 2 * self.radius, 2 * self.radius)


def frontier_chart(selection: Mapping[str, Any], width: int, height: int) -> str:
    """Return the plot as SVG in the page's colours."""
    rows = selection["variants"]
    plot = Box(52, 32, width - 52 - 16, height - 32 - 52)
    x, y = _scales(selection, plot)
    bubbles = [_bubble(row, selection, x, y) for row in sorted(rows, key=lambda row: -row["size_bytes"])]
    frontier = _frontier_points(bubbles, lower_is_better=rows[0].get("mode") == "min")
    marks = [
        *grid(x, y, x.ticks(), y.ticks()),
        *_limits(selection, x, y, plot),
        polyline(frontier, "frontier"),
        *(_circle(bubble, x) for bubble in bubbles),
        *_labels(bubbles, plot, short_names([row["variant"] for row in rows]), _in_the_way(frontier, selection, x, y)),
        text(plot.x + plot.width, height - 10, "median latency at batch 1, ms (log scale) →", "name", "end"),
        text(plot.x, 18, f"{'↓' if rows[0].get('mode') == 'min' else '↑'} {rows[0]['metric']}, dev", "name"),
    ]
    return picture(width, height, marks, f"Quality against latency of {len(rows)} variants of {selection['recipe']}")


def standalone(chart: str) -> str:
    """Return a chart as an SVG file that brings its own colours."""
    head, _, rest = chart.partition("\n")
    return "\n".join([head, STANDALONE_STYLE % STYLE, rest, ""])


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names without the words they all begin with: tatoeba-student-int8 -> student-int8."""
    words = [name.split("-") for name in names]
    shared = 0
    while len(names) > 1 and all(len(w) > shared + 1 and w[shared] == words[0][shared] for w in words):
        shared += 1
    return {name: "-".join(word[shared:]) for name, word in zip(names, words, strict=True)}


def teacher_metric(selection: Mapping[str, Any]) -> float:
    """Return the teacher's dev quality by the metric variants are chosen by."""
    row = next(row for row in selection["variants"] if row["variant"] == selection["selected"])
    known = selection.get("teacher_quality", {}).get("dev", {}).get(row["metric"])
    return float(known) if known is not None else quality_of(row) / float(row["quality_vs_teacher"])


def _scales(selection: Mapping[str, Any], plot: Box) -> tuple[Scale, Scale]:
    rows = selection["variants"]
    timings = [p50_of(row) for row in rows]
    qualities = [quality_of(row) for row in rows]
    # A limit is shown where it is in reach; far away it would squeeze the variants into a corner.
    limit, floor = selection["budget"]["max_p50_ms"], _floor(selection)
    reach = padded(qualities, 1.5)
    shown = [*qualities, floor] if reach[0] <= floor <= reach[1] else qualities
    low, high = padded(shown, 0.22)
    right = max(max(timings) * 1.6, limit * 1.1 if limit <= 4 * max(timings) else 0)
    across = Scale(min(timings) / 1.5, right, plot.x, plot.x + plot.width, logarithmic=True)
    return across, Scale(low, high, plot.y + plot.height, plot.y)


def _floor(selection: Mapping[str, Any]) -> float:
    share, teacher = float(selection["budget"]["min_quality"]), teacher_metric(selection)
    lower_is_better = selection["variants"][0].get("mode") == "min"
    return teacher / share if lower_is_better and share else teacher * share


def _bubble(row: Mapping[str, Any], selection: Mapping[str, Any], x: Scale, y: Scale) -> Bubble:
    largest = max(other["size_bytes"] for other in selection["variants"])
    radius = max(SMALLEST_RADIUS, LARGEST_RADIUS * math.sqrt(row["size_bytes"] / largest))
    return Bubble(row, x(p50_of(row)), y(quality_of(row)), radius, row["variant"] == selection["selected"])


def _limits(selection: Mapping[str, Any], x: Scale, y: Scale, plot: Box) -> list[str]:
    """Return the region within the budget, its border where that is in view, and the limits in words."""
    limit, floor = float(selection["budget"]["max_p50_ms"]), _floor(selection)
    right, bottom = x(min(limit, x.high)), y(max(floor, y.low))
    above = selection["variants"][0].get("mode") != "min"
    top, bottom = (plot.y, bottom) if above else (y(min(floor, y.high)), plot.y + plot.height)
    size = f'width="{number(right - plot.x)}" height="{number(bottom - top)}"'
    marks = [f'<rect x="{number(plot.x)}" y="{number(top)}" {size} class="budget"/>']
    if limit < x.high:
        marks.append(line(right, plot.y, right, plot.y + plot.height, "limit"))
        marks.append(text(right, plot.y - 6, f"≤ {limit:g} ms", "limit-text", "end"))
    if y.low < floor < y.high:
        border = bottom if above else top
        marks.append(line(plot.x, border, plot.x + plot.width, border, "limit"))
        words = f"≥ {floor_text(selection['budget']['min_quality'])} of the teacher"
        marks.append(text(plot.x + plot.width - 4, border + 14, words, "limit-text", "end"))
    return marks


def _frontier_points(bubbles: Sequence[Bubble], lower_is_better: bool) -> list[tuple[float, float]]:
    """Return the places of the bubbles that no other beats in quality and latency, the two axes in view."""
    points, best = [], -math.inf
    for bubble in sorted(bubbles, key=lambda bubble: (bubble.x, bubble.y)):
        height = bubble.y if lower_is_better else -bubble.y  # pixels run downwards
        if height > best:
            points.append((bubble.x, bubble.y))
            best = height
    return points


def _in_the_way(frontier: Sequence[tuple[float, float]], selection: Mapping[str, Any], x: Scale, y: Scale) -> list[Box]:
    """Return small boxes along the lines that a label had better not cover."""
    lines = list(pairwise(frontier))
    limit, floor = float(selection["budget"]["max_p50_ms"]), _floor(selection)
    if limit < x.high:
        lines.append(((x(limit), y.start), (x(limit), y.end)))
    if y.low < floor < y.high:
        lines.append(((x.start, y(floor)), (x.end, y(floor))))
        lines.append(((x.end - 130, y(floor) + 10), (x.end, y(floor) + 10)))  # its words
    return [
        Box(x1 + (x2 - x1) * share - 2, y1 + (y2 - y1) * share - 2, 4, 4)
        for (x1, y1), (x2, y2) in lines
        for share in (index / 60 for index in range(61))
    ]


def _circle(bubble: Bubble, x: Scale) -> str:
    row, timing = bubble.row, bubble.row["latency_ms"]["batch_1"]
    kind = "bubble chosen" if bubble.chosen else "bubble"
    figures = f"{quality_text(quality_of(row))} {row['metric']}, {p50_of(row):.2f} ms"
    words = f"{row['variant']}: {figures}, {megabytes_text(row['size_bytes'])} MB"
    circle = f'<circle cx="{number(bubble.x)}" cy="{number(bubble.y)}" r="{number(bubble.radius)}" class="{kind}"/>'
    whisker = ""
    if timing.get("low") and timing.get("high"):
        whisker = line(x(max(timing["low"], x.low)), bubble.y, x(min(timing["high"], x.high)), bubble.y, "whisker")
    return f"<g><title>{escape(words)}</title>{circle}{whisker}</g>"


def _labels(bubbles: Sequence[Bubble], plot: Box, short: Mapping[str, str], lines: Sequence[Box]) -> list[str]:
    """Place name and size beside each bubble where they cover no other label, no bubble and, if possible, no line."""
    placed: list[Box] = []
    marks: list[str] = []
    for bubble in sorted(bubbles, key=lambda bubble: not bubble.chosen):
        name, size = short[bubble.row["variant"]], f"{megabytes_text(bubble.row['size_bytes'])} MB"
        width = max(len(name) * (CHARACTER * 1.08 if bubble.chosen else CHARACTER), len(size) * CHARACTER)
        taken = [*(other.box for other in bubbles), *lines, *placed * 20]  # a label upon a label is by far the worst
        others = [other for other in bubbles if other is not bubble]
        box, anchor = min(_places(bubble, width), key=lambda place: _trouble(place[0], bubble, others, taken, plot))
        placed.append(box)
        at = {"start": box.x, "middle": box.x + width / 2, "end": box.x + width}[anchor]
        marks += _leader(bubble, box)
        marks.append(text(at, box.y + 12, name, "label chosen" if bubble.chosen else "label", anchor))
        marks.append(text(at, box.y + 26, size, "small", anchor))
    return marks


def _places(bubble: Bubble, width: float) -> list[tuple[Box, str]]:
    """Return where a label may stand, nearest and most readable first: right, left, above, below, then farther off."""
    places = []
    for gap in (6.0, 22.0, 44.0, 72.0):
        away = bubble.radius + gap
        for across, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            slant = 0.72 if across and down else 1.0
            left = {1: bubble.x + away * slant, -1: bubble.x - away * slant - width, 0: bubble.x - width / 2}[across]
            middle = bubble.y + down * (away * slant + LABEL_HEIGHT / 2)
            anchor = {1: "start", -1: "end", 0: "middle"}[across]
            places.append((Box(left, middle - LABEL_HEIGHT / 2, width, LABEL_HEIGHT), anchor))
    return places


def _trouble(box: Box, bubble: Bubble, others: Sequence[Bubble], taken: Sequence[Box], plot: Box) -> float:
    """Return how bad a label's place is: what it covers, how far off it is, and whether it seems to be another's."""
    own = _gap(bubble, box)
    mistaken = sum(1000 for other in others if _gap(other, box) < own + 4)
    return sum(box.overlap(other) for other in taken) + 10 * box.area_outside(plot) + own + mistaken


def _gap(bubble: Bubble, box: Box) -> float:
    """Return the distance between a bubble's edge and a box (negative: they touch)."""
    return math.hypot(*_nearest(bubble, box)) - bubble.radius


def _nearest(bubble: Bubble, box: Box) -> tuple[float, float]:
    """Return the way from a bubble's centre to the nearest point of a box."""
    across = min(max(bubble.x, box.x), box.x + box.width) - bubble.x
    down = min(max(bubble.y, box.y), box.y + box.height) - bubble.y
    return across, down


def _leader(bubble: Bubble, box: Box) -> list[str]:
    """Return a line from a bubble to a label that could not stand right beside it."""
    if _gap(bubble, box) < 14:
        return []
    across, down = _nearest(bubble, box)
    share = bubble.radius / math.hypot(across, down)
    x1, y1 = bubble.x + across * share, bubble.y + down * share
    return [line(x1, y1, bubble.x + across, bubble.y + down, "leader")]
