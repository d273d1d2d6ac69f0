from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.core.errors import ModelpressError
from components.core.files import read_json
from components.data.series_windows import Framing, SeriesWindows, prepare_series

SPLIT = {"train": 30, "dev": 12, "test": 10}
FRAMING = Framing(look_back=6, horizon=4, season=3)


def write_series(raw: Path, values: np.ndarray, name: str = "series.csv") -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{','.join(map(str, row))}\n" for row in values.tolist())
    (raw / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return raw


def counting(rows: int = 52) -> np.ndarray:
    """Return rows that say where they are: (i, 100 + i)."""
    return np.stack([np.arange(rows), 100 + np.arange(rows)], 1).astype(float)


def prepared(folder: Path, values: np.ndarray, name: str = "series.csv", **split: Any) -> Path:
    prepare_series(write_series(folder / "raw", values, name), folder / "out", {**SPLIT, **split}, FRAMING)
    return folder / "out"


@pytest.mark.parametrize("name", ["series.csv", "series.txt.gz"])
def test_judged_windows_forecast_their_own_split_and_look_back_into_the_one_before(tmp_path: Path, name: str) -> None:
    root = prepared(tmp_path, counting(), name)
    train, dev, test = (SeriesWindows.load(root, split) for split in ("train", "dev", "test"))
    assert [len(windows) for windows in (train, dev, test)] == [30 - 6 - 4 + 1, 12 - 4 + 1, 10 - 4 + 1]
    assert dev.past[0, :, 0].tolist() == [24, 25, 26, 27, 28, 29]
    assert dev.future[0, :, 0].tolist() == [30, 31, 32, 33]
    assert test.future[-1, :, 1].tolist() == [148, 149, 150, 151]
    assert train.future[-1, -1, 0] == 29


def test_a_channel_of_small_numbers_keeps_its_digits(tmp_path: Path) -> None:
    rows = counting()
    rows[:, 1] *= 1e-9
    windows = SeriesWindows.load(prepared(tmp_path, rows), "train")
    np.testing.assert_allclose(windows.past[0, :, 1], rows[:6, 1], rtol=1e-4)


def test_scale_is_learnt_from_the_training_rows_alone(tmp_path: Path) -> None:
    changed = counting()
    changed[30:] *= 1000
    before, after = (
        read_json(prepared(tmp_path / name, values) / "assets" / "series.json")
        for name, values in (("before", counting()), ("after", changed))
    )
    assert before == after
    assert before["mean"] == pytest.approx([14.5, 114.5])
    assert before["deviation"] == pytest.approx([np.arange(30).std()] * 2)


def test_errors_are_counted_in_training_deviations(tmp_path: Path) -> None:
    dev = SeriesWindows.load(prepared(tmp_path, counting()), "dev")
    np.testing.assert_allclose(dev.errors(dev.future + dev.deviation), 1.0)


@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 8), st.integers(0, 3))
def test_naive_forecasts_repeat_the_last_row_and_the_last_season(
    look_back: int, horizon: int, season: int, more: int
) -> None:
    look_back = max(look_back, season)
    values = np.random.default_rng(0).normal(size=(look_back + horizon + more, 2))
    windows_NTC = np.stack([values[n : n + look_back + horizon] for n in range(more + 1)])
    past, future = windows_NTC[:, :look_back], windows_NTC[:, look_back:]
    windows = SeriesWindows(past, future, ["a", "b"], np.zeros(2), np.ones(2), season)
    for step in range(horizon):
        np.testing.assert_array_equal(windows.persistence()[:, step], past[:, -1])
        np.testing.assert_array_equal(windows.seasonal_naive()[:, step], past[:, look_back - season + step % season])


def test_batches_hold_what_inputs_and_references_say(tmp_path: Path) -> None:
    dev = SeriesWindows.load(prepared(tmp_path, counting()), "dev")
    past, future = dev.collate([dev[2], dev[3]])
    assert past.tolist() == dev.inputs()[2:4] == [dev.inputs()[2], dev.inputs()[3]]
    assert future.tolist() == dev.references()[2:4]


def test_a_teachers_forecasts_take_the_place_of_what_followed(tmp_path: Path) -> None:
    dev = SeriesWindows.load(prepared(tmp_path, counting()), "dev")
    both = dev + dev.with_targets(dev.persistence().tolist())
    assert len(both) == 2 * len(dev)
    np.testing.assert_array_equal(both.past[len(dev) :], dev.past)
    np.testing.assert_array_equal(both.future[len(dev) :], dev.persistence())


def test_columns_are_named_by_the_split_where_the_file_has_no_names(tmp_path: Path) -> None:
    root = prepared(tmp_path, counting(), channels=["low", "high"])
    assert SeriesWindows.load(root, "test").channels == ["low", "high"]
    with pytest.raises(ModelpressError, match=r"datasets\.raw\.split\.channels: 1 names, the file has 2 columns"):
        prepared(tmp_path, counting(), channels=["low"])


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        (51, {}, r"datasets\.raw\.split: asks for 52 rows, the file has 51; ask for fewer"),
        (52, {"dev": 3}, r"datasets\.raw\.split\.dev: 3 rows hold no window"),
    ],
)
def test_too_few_rows_are_a_clear_error(tmp_path: Path, rows: int, split: dict[str, int], message: str) -> None:
    with pytest.raises(ModelpressError, match=message):
        prepared(tmp_path, counting(rows), **split)


def test_raw_folder_must_hold_one_file_of_text(tmp_path: Path) -> None:
    raw = write_series(tmp_path / "raw", counting())
    write_series(raw, counting(), "second.csv")
    with pytest.raises(ModelpressError, match="2 files; a series is one CSV file"):
        prepare_series(raw, tmp_path / "out", SPLIT, FRAMING)
    (raw / "second.csv").unlink()
    (raw / "series.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelpressError, match=r"series\.csv: no CSV text"):
        prepare_series(raw, tmp_path / "out", SPLIT, FRAMING)


def test_season_longer_than_the_look_back_is_refused() -> None:
    with pytest.raises(ValidationError, match="season: 7 rows, look_back has 6"):
        Framing(look_back=6, horizon=4, season=7)
