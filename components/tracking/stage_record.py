"""What a stage leaves in MLflow: parameters, metrics, curves by step, artifacts and tags."""

from __future__ import annotations

import csv
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.core.files import read_json
from components.core.flatten import flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

T = TypeVar("T")

# MLflow's own limits of one log_batch call, and of a parameter's value.
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
PARAM_LENGTH = 6000
STEP_COLUMN = "step"


@dataclass(frozen=True)
class StageRecord:
    """What to record of one stage. Files that do not exist (a failed stage's) are left out.

    params: nested; recorded flat, keys joined by dots.
    metrics: JSON files; their numbers are recorded flat, keys joined by dots.
    plots: CSV files with a `step` column; every other numeric column becomes a metric by step.
    artifacts: files and folders, copied as they are.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Path] = ()
    plots: Sequence[Path] = ()
    artifacts: Sequence[Path] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def log_record(client: MlflowClient, run_id: str, record: StageRecord) -> None:
    """Add a stage's record to its run; steps that training has logged already are not logged twice."""
    values = {
        metric_name(key): value
        for path in record.metrics
        if path.is_file()
        for key, value in flat_numbers(read_json(path)).items()
    }
    log_values(client, run_id, values, record.params, record.tags)
    for path in record.plots:
        if path.is_file():
            log_curves(client, run_id, path)
    for path in record.artifacts:
        log_artifact(client, run_id, path)


def log_values(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add single numbers, parameters (nested or flat) and tags to a run."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    numbers = [Metric(key, value, now, 0) for key, value in (metrics or {}).items()]
    flat = [Param(metric_name(key), str(value)[:PARAM_LENGTH]) for key, value in flatten(params or {}).items()]
    labels = [RunTag(key, str(value)) for key, value in (tags or {}).items()]
    client.log_batch(run_id, numbers[: METRICS_A_BATCH - PARAMS_A_BATCH], flat[:PARAMS_A_BATCH], labels)
    for metrics_left in _chunks(numbers[METRICS_A_BATCH - PARAMS_A_BATCH :], METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics_left)
    for params_left in _chunks(flat[PARAMS_A_BATCH:], PARAMS_A_BATCH):
        client.log_batch(run_id, params=params_left)


def log_curves(client: MlflowClient, run_id: str, path: Path) -> None:
    """Add a CSV's columns as metrics by step, except the steps the run has already."""
    points = list(_points(path))
    live = client.get_run(run_id).data.metrics
    known = {
        (name, metric.step)
        for name in {point.key for point in points} & set(live)
        for metric in client.get_metric_history(run_id, name)
    }
    new = [point for point in points if (point.key, point.step) not in known]
    for chunk in _chunks(new, METRICS_A_BATCH):
        client.log_batch(run_id, metrics=chunk)


def log_artifact(client: MlflowClient, run_id: str, path: Path) -> None:
    """Copy a file, or a folder under its own name, to the run's artifacts; do nothing if there is none."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), path.name)
    elif path.is_file():
        client.log_artifact(run_id, str(path))


def flat_numbers(value: Any) -> dict[str, float]:
    """Return the finite numbers in nested mappings, with dotted keys; lists and truth values are left out."""
    return {
        key: float(number)
        for key, number in flatten(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    }


def metric_name(key: str) -> str:
    """Return the key with what MLflow refuses in a name replaced by underscores."""
    return re.sub(r"[^\w. /-]", "_", key, flags=re.ASCII)


def _points(path: Path) -> Iterator[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for column, text in row.items():
                value = _number(text)
                if column != STEP_COLUMN and value is not None:
                    yield Metric(metric_name(column), value, now, int(float(row[STEP_COLUMN])))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
