"""What a table of word vectors knows: a map, neighbours, its likeness to people's ratings, analogies one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.axes import Scale, grid, padded, picture, text
from components.evaluation.pictures import Picture

MAPPED: Mapping[str, Sequence[str]] = {
    "people": ("king", "queen", "man", "woman", "boy", "girl", "father", "mother", "brother", "sister"),
    "animals": ("horse", "dog", "cat", "bird", "fish", "sheep", "cow", "wolf"),
    "body": ("hand", "eye", "foot", "arm", "head", "heart", "finger", "face"),
    "time": ("day", "night", "morning", "evening", "week", "month", "year", "hour"),
    "places": ("england", "france", "london", "paris", "germany", "italy", "rome", "america"),
    "feelings": ("love", "joy", "sorrow", "fear", "anger", "hope", "grief", "pride"),
    "house": ("door", "window", "room", "kitchen", "wall", "floor", "table", "chair"),
    "numbers": ("two", "three", "four", "five", "six", "seven", "eight", "ten"),
}
# told apart by hue and by the words themselves
COLOURS = ("#d1495b", "#2e86ab", "#3c8d53", "#b7791f", "#7b5ea7", "#c2528b", "#4a7c7e", "#7d6b57")
MOST_POINTS = 1000  # of a set of ratings
SHOWN_ANALOGIES = 24
WIDTH, HEIGHT, SMALL = 760, 560, 360  # pixels


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the map, the neighbours, a scatter for each set of ratings, and some analogies."""
    rated: dict[str, list[tuple[float, float]]] = {}
    rows: dict[str, list[list[str]]] = {"shown": [], "analogies": []}
    answers = predictor.predict(examples.inputs())
    for question, answer in zip(examples.questions, answers, strict=True):
        if question.answer is None:
            rows["shown"].append([question.text, ", ".join(answer["nearest"][:8])])
        elif isinstance(question.answer, str):
            rows["analogies"].append([question.text, question.answer, ", ".join(answer["nearest"][:3])])
        else:
            rated.setdefault(question.group, []).append((question.answer, answer["similarity"]))
    scatters = [scatter(name, points) for name, points in sorted(rated.items())]
    return [
        Picture("A map of words", "Two principal components of their unit vectors; colours are ours.", _map(predictor)),
        Picture("Neighbours", "The nearest words by cosine, nearest first.", table(["word", "nearest"], rows["shown"])),
        Picture(
            "As people see it", "A point: a pair of words; across people's rating, up the cosine.", "".join(scatters)
        ),
        Picture(
            "Analogies",
            f"The first {SHOWN_ANALOGIES} of {len(rows['analogies']):,}: asked, right, and the three nearest words.",
            table(["asked", "right", "answered"], rows["analogies"][:SHOWN_ANALOGIES]),
        ),
    ]


def principal_components(similarity_NN: np.ndarray) -> np.ndarray:
    """Return the first two principal components (N, 2) of unit vectors, from their cosines alone."""
    centred_NN = similarity_NN - similarity_NN.mean(0) - similarity_NN.mean(1, keepdims=True) + similarity_NN.mean()
    values, vectors = np.linalg.eigh((centred_NN + centred_NN.T) / 2)
    places_N2: np.ndarray = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0))
    return places_N2


def _map(predictor: Any) -> str:
    known = set(predictor.words)
    groups = {name: [word for word in words if word in known] for name, words in MAPPED.items()}
    words = [word for group in groups.values() for word in group]
    if len(words) < 3:
        return "<p>Too few of the map's words are known.</p>"
    places = principal_components(predictor.similarities(words))
    x = Scale(*padded(places[:, 0].tolist(), 0.06), 10, WIDTH - 70)
    y = Scale(*padded(places[:, 1].tolist(), 0.06), HEIGHT - 20, 40)
    colour = {word: shade for shade, group in zip(COLOURS, groups.values(), strict=True) for word in group}
    marks = [
        f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{colour[word]}"/>'
        f'<g style="--ink:{colour[word]};--muted:{colour[word]}">{text(x(a) + 6, y(b) + 4, word, "tick")}</g>'
        for word, (a, b) in zip(words, places, strict=True)
    ]
    key = [
        f'<circle cx="{14 + 92 * i}" cy="14" r="4" fill="{shade}"/>{text(22 + 92 * i, 18, name, "tick")}'
        for i, (shade, name) in enumerate(zip(COLOURS, groups, strict=True))
    ]
    return picture(WIDTH, HEIGHT, [*key, *marks], "map of words")


def scatter(name: str, points: Sequence[tuple[float, float]]) -> str:
    """Return people's ratings against cosines as SVG; of many points every n-th."""
    from scipy.stats import spearmanr

    correlation = float(spearmanr(*zip(*points, strict=True)).statistic)
    shown = points[:: -(-len(points) // MOST_POINTS)]
    ratings, cosines = zip(*shown, strict=True)
    x = Scale(*padded(ratings, 0.03), 44, SMALL - 12)
    y = Scale(*padded(cosines, 0.03), SMALL - 30, 34)
    title = text(44, 18, f"{name}: Spearman {100 * correlation:.1f}, {len(points):,} pairs", "label")
    dots = "".join(
        f'<circle cx="{x(a):.0f}" cy="{y(b):.0f}" r="2" fill="var(--accent)" fill-opacity="0.35"/>' for a, b in shown
    )
    drawing = picture(SMALL, SMALL, [*grid(x, y, x.ticks(5), y.ticks(5)), title, dots], f"{name}: people and model")
    return f'<div style="flex: 1 1 {SMALL - 60}px; max-width: {SMALL + 40}px">{drawing}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of plain texts."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="examples"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'
