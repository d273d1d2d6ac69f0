"""What a forecaster is worth beside knowing nothing: errors against naive forecasts, by step, and windows as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.axes import Scale, grid, line, padded, picture, polyline
from components.evaluation.pictures import Picture

QUANTILES = ((0.05, "easy"), (0.5, "middling"), (0.95, "hard"))  # windows shown, by the forecast's error
CHANNELS = 3  # shown of each window
KINDS = {"forecast": "s1", "persistence": "s0", "truth": "s2", "last season": "s3"}
STYLE = "<style>.curve.s3{stroke:var(--bubble);stroke-dasharray:4 3}.key.s3::before{background:var(--bubble)}</style>"
Lines = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # name -> steps, values


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the table of errors, the errors by step of the horizon, and some windows with what was forecast."""
    forecast_NHC, persistence_NHC = predictor.forecast(examples.past), examples.persistence()
    errors = {
        "forecast": examples.errors(forecast_NHC),
        "persistence": examples.errors(persistence_NHC),
        "last season": examples.errors(examples.seasonal_naive()),
    }
    windows = f"{len(examples):,} test windows of {examples.future.shape[1]} rows and {len(examples.channels)} channels"
    return [
        Picture(
            "Beside naive forecasts",
            f"Errors over {windows}, in training deviations. Persistence: the last row stays; last season: the last "
            f"{examples.season} rows come again.",
            _table(errors),
        ),
        Picture(
            "Error by step",
            "Mean squared error of each row of the horizon.",
            _legend(errors) + _by_step(errors),
        ),
        Picture(
            "What was forecast",
            "Windows at the 5th, 50th and 95th percentile of the chosen variant's error: easy, middling, hard.",
            _legend(["truth", "forecast", "persistence"])
            + "".join(_windows(examples, forecast_NHC, persistence_NHC, errors["forecast"])),
        ),
    ]


def _table(errors: Mapping[str, np.ndarray]) -> str:
    """Return each forecast's errors over all windows, steps and channels, as HTML."""
    rows = "".join(
        f"<tr><td>{name}</td><td>{np.square(error).mean():.4f}</td><td>{np.abs(error).mean():.4f}</td></tr>"
        for name, error in errors.items()
    )
    return f"<table><thead><tr><th></th><th>MSE</th><th>MAE</th></tr></thead><tbody>{rows}</tbody></table>"


def _by_step(errors: Mapping[str, np.ndarray]) -> str:
    lines = {}
    for name, error_NHC in errors.items():
        mse_H = np.square(error_NHC).mean((0, 2))
        lines[name] = (range(1, len(mse_H) + 1), mse_H.tolist())
    return _chart(lines, 760, 260, "mean squared error by step", from_zero=True)


def _windows(
    examples: Any, forecast_NHC: np.ndarray, persistence_NHC: np.ndarray, error_NHC: np.ndarray
) -> Sequence[str]:
    """Return a small chart for each chosen window and channel, as HTML."""
    order = np.argsort(np.square(error_NHC).mean((1, 2)), kind="stable")
    channels = np.unique(np.linspace(0, len(examples.channels) - 1, CHANNELS).astype(int))
    charts = []
    for quantile, word in QUANTILES:
        n = int(order[round(quantile * (len(order) - 1))])
        for c in channels:
            title = f"{word}: {examples.channels[c]}, window {n + 1:,}"
            ahead = range(1, forecast_NHC.shape[1] + 1)
            past = examples.past[n, -len(ahead) :, c]
            truth = (range(1 - len(past), len(ahead) + 1), [*past.tolist(), *examples.future[n, :, c].tolist()])
            naive, forecast = ((ahead, values_NHC[n, :, c].tolist()) for values_NHC in (persistence_NHC, forecast_NHC))
            lines = {"persistence": naive, "truth": truth, "forecast": forecast}
            svg = _chart(lines, 320, 180, title)
            caption = f"<figcaption>{escape(title)}</figcaption>"
            charts.append(f'<figure style="margin:0;width:310px">{caption}{svg}</figure>')
    return charts


def _chart(lines: Lines, width: int, height: int, title: str, from_zero: bool = False) -> str:
    """Return lines over steps as SVG; now, the border of past and future, is step 0."""
    steps = [float(step) for x, _ in lines.values() for step in x]
    low, high = padded([float(value) for _, y in lines.values() for value in y], 0.06)
    across = Scale(min(0.0, *steps), max(steps), 48, width - 12)
    up = Scale(0.0 if from_zero else low, high, height - 28, 8)
    marks = grid(across, up, across.ticks(4), up.ticks(4))
    if min(steps) < 0:
        marks.append(line(across(0), up.start, across(0), up.end, "axis"))
    for name, (x, y) in lines.items():
        marks.append(polyline([(across(a), up(float(b))) for a, b in zip(x, y, strict=True)], f"curve {KINDS[name]}"))
    return picture(width, height, marks, title)


def _legend(names: Sequence[str] | Mapping[str, Any]) -> str:
    keys = "".join(f'<span class="key {KINDS[name]}" style="margin-right:14px">{name}</span>' for name in names)
    return f'{STYLE}<div style="width:100%;font-size:13px">{keys}</div>'
