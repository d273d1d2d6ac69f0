"""Why an int8 variant lost quality: how far each of its layers alone moves the logits, as bars and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from components.evaluation.charts.axes import picture, text
from components.evaluation.pictures import Picture

ROW, LEFT, WIDTH, RIGHT = 22, 250, 520, 80  # pixels
COLOURS = {"int8": "var(--accent)", "int8, reduced": "var(--accent)", "float": "var(--bubble)"}


def layer_error_pictures(quantizations: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """Return a figure for each variant whose layers were ranked.

    quantizations: {variant: its manifest's `quantization`}, empty where it was not quantized so.
    """
    return [
        Picture(f"Where int8 costs quality: {name}", _caption(facts), f"{_bars(facts['ranking'])}\n{_tried(facts)}")
        for name, facts in quantizations.items()
        if facts.get("ranking")
    ]


def _caption(facts: Mapping[str, Any]) -> str:
    calibration, last = facts["calibration"], facts["tried"][-1]
    certified = ", ".join(facts["certificates"]) or "no processor"
    return (
        "Each layer alone in int8: the root mean square by which it moves the logits, in per cent of their spread, on "
        f"examples of {calibration['split']}. {last['in_float']} of {len(facts['ranking'])} layers stay in float; what "
        f"is lost on dev is {last['loss']:.2%}. {_origin(facts)} Exact on: {certified}."
    )


def _origin(facts: Mapping[str, Any]) -> str:
    """Return where the ranges of activations come from."""
    if learned := facts.get("learned_ranges"):
        return f"{learned} ranges are those that the model was trained to round within."
    calibration = facts["calibration"]
    return f"Calibrated on {calibration['samples']} examples ({calibration['method'].replace('_', '-')})."


def _bars(ranking: Sequence[Mapping[str, Any]]) -> str:
    longest = max(max(layer["error"] for layer in ranking), 1e-12)
    marks = []
    for row, layer in enumerate(ranking):
        y, length = row * ROW, WIDTH * layer["error"] / longest
        colour = COLOURS[layer["precision"]]
        marks.append(text(LEFT - 10, y + ROW / 2 + 4, layer["layer"], "tick", "end"))
        marks.append(
            f'<rect x="{LEFT}" y="{y + 3}" width="{max(length, 1):.1f}" height="{ROW - 6}" rx="3" fill="{colour}"/>'
        )
        note = f"{100 * layer['error']:.2f} %" + ("" if layer["precision"] == "int8" else f" · {layer['precision']}")
        marks.append(text(LEFT + length + 8, y + ROW / 2 + 4, note, "tick"))
    return picture(LEFT + WIDTH + 2 * RIGHT, len(ranking) * ROW + 4, marks, "error of each layer")


def _tried(facts: Mapping[str, Any]) -> str:
    """Return how dev went with ever more layers in float, as a table."""
    rows = [
        f"<tr><td>{row['in_float']}</td><td>{escape(_scores(row['dev']))}</td><td>{row['loss']:.2%}</td></tr>"
        for row in facts["tried"]
    ]
    head = "<tr><th>Layers in float</th><th>dev</th><th>lost</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _scores(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())
