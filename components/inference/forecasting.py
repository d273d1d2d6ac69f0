"""Rows of numbers in, the rows to come out: the last window of a table, one run of the graph, rounded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import ModelpressError
from components.inference.number_tables import parse_table
from components.inference.predictor import Predictor
from components.inference.session import Session

BATCH = 64
STEP = 1e-3  # of a channel's deviation: finer digits would differ between two machines' sums


class ForecastPredictor(Predictor):
    """The graph "forecast": `past` float32 (B, T, C) -> `future` float32 (B, horizon, C), in the data's unit."""

    unit = "forecasts"

    def __init__(self, sessions: Mapping[str, Session], assets: Path, options: Mapping[str, Any]) -> None:
        super().__init__(sessions, assets, options)
        facts = json.loads((assets / "series.json").read_text(encoding="utf-8"))
        self._look_back, self._channels = facts["look_back"], facts["channels"]
        self._decimals = [int(np.ceil(-np.log10(STEP * deviation))) for deviation in facts["deviation"]]

    def predict(self, inputs: list[str | list[list[float]]]) -> list[list[list[float]]]:
        """Return the next rows of each series, each a list of one number a channel, in the series' unit.

        inputs: rows of one number a channel, oldest first; or the path of a CSV file of them, whose first column may
        be dates. Columns under names may stand in any order, without names they stand as in training. Rows before
        the last `look_back` are not looked at.

        Raises:
            ModelpressError: no such file, too few rows, other channels, or a field that is no number.
        """
        if not inputs:
            return []
        return [self._rounded(future_HC) for future_HC in self.forecast(np.stack(list(map(self._window, inputs))))]

    def forecast(self, past_NTC: np.ndarray) -> np.ndarray:
        """Return the unrounded forecasts float32 (N, horizon, C) of windows (N, look-back, C)."""
        run = self.sessions["forecast"].run
        parts = [past_NTC[start : start + BATCH].astype(np.float32) for start in range(0, len(past_NTC), BATCH)]
        return np.concatenate([run(["future"], {"past": past_BTC})[0] for past_BTC in parts])

    def count_units(self, answers: list[Any]) -> int:
        """Return the number of forecasts."""
        return len(answers)

    def _window(self, given: str | list[list[float]]) -> np.ndarray:
        """Return the last look-back rows of one input, float32 (look-back, C)."""
        name, rows = (given, self._read(given)) if isinstance(given, str) else ("the series", _array(given))
        if rows.ndim != 2 or rows.shape[1] != len(self._channels):
            columns = rows.shape[1] if rows.ndim == 2 else "no"
            raise ModelpressError(f"{name}: {columns} numbers a row; give {', '.join(self._channels)}")
        if len(rows) < self._look_back:
            raise ModelpressError(f"{name}: {len(rows)} rows; a forecast looks back on {self._look_back}")
        with np.errstate(over="ignore"):
            window_TC = rows[-self._look_back :].astype(np.float32)
        if not np.isfinite(window_TC).all():
            raise ModelpressError(f"{name}: a number is too large for float32; give the data's own unit")
        return window_TC

    def _read(self, path: str) -> np.ndarray:
        """Return a CSV file's rows, float64 (T, C), its columns in the order of the model's channels."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError):
            raise ModelpressError(f"{path[:60]}: no such text file; give the path of a CSV file, or rows") from None
        table = parse_table(text, path)
        if not table.named:
            return table.values
        if sorted(table.channels) != sorted(self._channels):
            raise ModelpressError(
                f"{path}: its columns are {', '.join(table.channels)}, the model's {', '.join(self._channels)}; "
                "name them so, or leave the line of names out where they stand in this order"
            )
        return table.values[:, [table.channels.index(name) for name in self._channels]]

    def _rounded(self, future_HC: np.ndarray) -> list[list[float]]:
        return [[round(x, d) for x, d in zip(row, self._decimals, strict=True)] for row in future_HC.tolist()]


def _array(rows: Any) -> np.ndarray:
    try:
        values = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ModelpressError("the series: give rows of numbers, each of the same length") from None
    if not np.isfinite(values).all():
        raise ModelpressError("the series: a number is missing or infinite; fill the gap first")
    return values


PREDICTOR = ForecastPredictor
