"""Training curves that grow in MLflow while the model trains; training itself never waits for MLflow."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from components.tracking.stage_record import METRICS_A_BATCH, metric_name

logger = logging.getLogger(__name__)

# A training shorter than this is never slowed by MLflow's import: its curves are recorded from the CSV at the end.
PATIENCE_S = 2.0
INTERVAL_S = 1.0


class LiveCurves:
    """Sends values by step to a run from a background thread, about once a second; does nothing without a run.

    Names must equal the columns of the stage's curves CSV: the recorder adds only the steps that are not there yet,
    so whatever a lost connection or a kill leaves out here is in MLflow all the same once the stage ends.
    """

    def __init__(self, run_id: str | None, uri: str | None) -> None:
        self._run_id = run_id
        self._uri = uri
        self._waiting: list[tuple[str, float, int, int]] = []  # name, value, timestamp in ms, step
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_environment(cls) -> LiveCurves:
        """Return curves of the run a stage process was started for (MODELPRESS_RUN_ID, MLFLOW_TRACKING_URI)."""
        return cls(os.environ.get("MODELPRESS_RUN_ID"), os.environ.get("MLFLOW_TRACKING_URI"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queue values of a step; returns at once."""
        if not self._run_id or not self._uri:
            return
        now = int(time.time() * 1000)
        with self._lock:
            self._waiting += [(metric_name(name), float(value), now, step) for name, value in values.items()]
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_until_closed, name="live-curves", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Send what is left and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _send_until_closed(self) -> None:
        if self._closing.wait(PATIENCE_S):
            return
        try:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=self._uri)
            while not self._closing.wait(INTERVAL_S):
                self._send(client)
            self._send(client)
        except Exception as error:  # whatever breaks the record must not break the training
            logger.warning("MLflow: no live curves from here on (%s)", error)

    def _send(self, client: Any) -> None:
        from mlflow.entities import Metric

        with self._lock:
            waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), METRICS_A_BATCH):
            client.log_batch(self._run_id, metrics=[Metric(*item) for item in waiting[start : start + METRICS_A_BATCH]])
