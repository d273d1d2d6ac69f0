"""Windows over a table of numbers by time: some rows of the past, the rows that follow, in time order split in three.

The protocol of the long-horizon benchmarks (Zhou et al. 2021): each split is a stretch of time; its windows forecast
rows of the split alone, but may look back into the stretch before; errors are of values scaled by the training rows'
mean and deviation, over every window.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from components.core.config import Config, parse_config
from components.core.errors import ModelpressError
from components.core.files import read_json, write_json
from components.inference.number_tables import Table, parse_table

DIGITS = 6  # behind the point of what varies by 1 or more: the files give six, or a float32 written out
SPLITS = ("train", "dev", "test")


class Split(Config):
    """datasets.<name>.split: rows of each stretch, one after the other from the first; the rest is unused."""

    train: int = Field(gt=0)
    dev: int = Field(gt=0)
    test: int = Field(gt=0)
    channels: tuple[str, ...] | None = Field(None, description="the columns' names, where the file has none")


class Framing(Config):
    """recipes.<name>.data: how a series is cut into windows."""

    look_back: int = Field(gt=0, description="rows of the past a forecast is made from")
    horizon: int = Field(gt=0, description="rows a forecast has")
    season: int = Field(gt=0, description="rows after which the seasonal-naive forecast begins anew")

    @model_validator(mode="after")
    def _season_is_seen(self) -> Self:
        if self.season > self.look_back:
            raise ValueError(f"season: {self.season} rows, look_back has {self.look_back}; look further back")
        return self


def prepare_series(raw: Path, out: Path, split: Mapping[str, Any], framing: Framing) -> dict[str, Any]:
    """Write each split's rows with the past they may look back to, and `assets/series.json`; return facts.

    Raises:
        ModelpressError: not exactly one raw file, a malformed one, or too few rows.
    """
    where = f"datasets.{raw.name}.split"
    rows = parse_config(Split, dict(split), where)
    table = _checked(read_series(raw), rows, where)
    train_TC = table.values[: rows.train]
    deviation = _plain(np.maximum(train_TC.std(0), 1e-6))  # a constant channel is divided by something
    facts = {
        "channels": table.channels,
        "look_back": framing.look_back,
        "horizon": framing.horizon,
        "season": framing.season,
        "mean": _plain(train_TC.mean(0)),
        "deviation": deviation,
    }
    write_json(out / "assets" / "series.json", facts)
    for name, (start, end) in zip(SPLITS, pairwise(np.cumsum([0, rows.train, rows.dev, rows.test])), strict=True):
        first = max(0, int(start) - framing.look_back)
        if end - first < framing.look_back + framing.horizon:
            raise ModelpressError(f"{where}.{name}: {end - start} rows hold no window; give it more rows")
        np.save(out / f"{name}.npy", _rounded(table.values[first:end], deviation))
    return {**{name: getattr(rows, name) for name in SPLITS}, "channels": table.channels}


def _checked(table: Table, rows: Split, where: str) -> Table:
    """Return the table under the split's names, once it has as many rows and columns as the split says."""
    needed = rows.train + rows.dev + rows.test
    if len(table.values) < needed:
        raise ModelpressError(f"{where}: asks for {needed:,} rows, the file has {len(table.values):,}; ask for fewer")
    names = list(rows.channels or table.channels)
    if len(names) != len(table.channels):
        raise ModelpressError(f"{where}.channels: {len(names)} names, the file has {len(table.channels)} columns")
    return Table(names, table.values)


def read_series(raw: Path) -> Table:
    """Return the one file of a raw folder: a CSV, perhaps gzipped.

    Raises:
        ModelpressError: no or several files, or a malformed one.
    """
    files = sorted(path for path in raw.iterdir() if path.is_file())
    if len(files) != 1:
        raise ModelpressError(f"{raw}: {len(files)} files; a series is one CSV file")
    content = files[0].read_bytes()
    try:
        text = (gzip.decompress(content) if files[0].suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ModelpressError(f"{files[0]}: no CSV text ({error}); fetch the dataset again") from None
    return parse_table(text, str(files[0]))


class RowLists(Sequence[Any]):
    """Windows (N, T, C) as lists of rows, made when asked for: a split's windows all at once take half a gigabyte."""

    def __init__(self, windows_NTC: np.ndarray) -> None:
        self._windows_NTC = windows_NTC

    def __len__(self) -> int:
        return len(self._windows_NTC)

    def __getitem__(self, index: Any) -> Any:
        """Return one window as [[number a channel] a row], or a list of them for a slice."""
        return self._windows_NTC[index].tolist()


@dataclass(frozen=True)
class SeriesWindows:
    """One split's windows in time order.

    past: float64 (N, look_back, C) in the original unit; future: float64 (N, horizon, C); both usually views of one
    array. mean, deviation: float64 (C,), of the training rows. season: see Framing.
    """

    past: np.ndarray
    future: np.ndarray
    channels: list[str]
    mean: np.ndarray
    deviation: np.ndarray
    season: int

    @classmethod
    def load(cls, root: Path, split: str) -> SeriesWindows:
        """Read a split written by prepare_series."""
        facts = read_facts(root)
        values_TC = np.load(root / f"{split}.npy", allow_pickle=False)
        size = facts["look_back"] + facts["horizon"]
        windows_NTC = np.lib.stride_tricks.sliding_window_view(values_TC, size, axis=0).transpose(0, 2, 1)
        past, future = np.split(windows_NTC, [facts["look_back"]], axis=1)
        mean, deviation = (np.array(facts[key]) for key in ("mean", "deviation"))
        return cls(past, future, facts["channels"], mean, deviation, facts["season"])

    def __len__(self) -> int:
        return len(self.past)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.past[index], self.future[index]

    def collate(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Return past float32 (B, look_back, C) and future float32 (B, horizon, C) in the original unit."""
        past, future = (torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*examples, strict=True))
        return past, future

    def lengths(self) -> None:
        """Return None: all windows are equally long, so the recipe gives batch_size."""

    def inputs(self) -> RowLists:
        """Return each window's past as rows of numbers, as the predictor takes it."""
        return RowLists(self.past)

    def references(self) -> RowLists:
        """Return the rows that followed."""
        return RowLists(self.future)

    def with_targets(self, answers: list[Any]) -> SeriesWindows:
        """Return the same windows with other rows to follow: a teacher's forecasts."""
        return replace(self, future=np.array(answers, np.float64))

    def __add__(self, other: SeriesWindows) -> SeriesWindows:
        """Return the windows of both."""
        past, future = (np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("past", "future"))
        return replace(self, past=past, future=future)

    # ---- what forecasts are judged by ----

    def errors(self, forecast_NHC: np.ndarray) -> np.ndarray:
        """Return a forecast's scaled errors float64 (N, horizon, C): in training deviations of each channel."""
        scaled: np.ndarray = (forecast_NHC - self.future) / self.deviation
        return scaled

    def persistence(self) -> np.ndarray:
        """Return the forecast that nothing changes, (N, horizon, C): the last row again and again."""
        return np.repeat(self.past[:, -1:], self.future.shape[1], axis=1)

    def seasonal_naive(self) -> np.ndarray:
        """Return the forecast that the last season repeats itself, (N, horizon, C)."""
        steps_H = np.arange(self.future.shape[1]) % self.season
        return self.past[:, self.past.shape[1] - self.season + steps_H]


def read_facts(root: Path) -> dict[str, Any]:
    """Return what prepare_series wrote about the series."""
    facts: dict[str, Any] = read_json(root / "assets" / "series.json")
    return facts


def _rounded(values_TC: np.ndarray, deviation_C: Sequence[float]) -> np.ndarray:
    """Return values to as many digits as there are; a channel that varies by little keeps more behind the point."""
    places = [max(DIGITS, DIGITS - math.floor(math.log10(deviation))) for deviation in deviation_C]
    return np.stack([column.round(count) for column, count in zip(values_TC.T, places, strict=True)], 1)


def _plain(values_C: np.ndarray) -> list[float]:
    return [float(f"{value:.9g}") for value in values_C]
