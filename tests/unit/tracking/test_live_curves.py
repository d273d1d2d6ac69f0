from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from components.tracking import live_curves
from components.tracking.live_curves import LiveCurves
from components.tracking.store import connect, open_experiment, tracking_uri


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_curves, "PATIENCE_S", 0.05)
    monkeypatch.setattr(live_curves, "INTERVAL_S", 0.05)


def new_run(root: Path) -> str:
    client = connect(root)
    return client.create_run(open_experiment(client, root, "tiny")).info.run_id


def test_values_arrive_while_training_goes_on_and_the_rest_at_close(root: Path) -> None:
    run_id = new_run(root)
    curves = LiveCurves(run_id, tracking_uri(root))
    curves.log(1, {"train_loss": 3.0})
    client = connect(root)
    deadline = time.monotonic() + 20
    while not client.get_run(run_id).data.metrics and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.get_run(run_id).data.metrics == {"train_loss": 3.0}
    curves.log(2, {"train_loss": 2.0, "dev_loss": 2.5})
    curves.close()
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "train_loss")] == [(1, 3.0), (2, 2.0)]
    assert client.get_run(run_id).data.metrics["dev_loss"] == 2.5


def test_nothing_happens_when_no_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELPRESS_RUN_ID", raising=False)
    curves = LiveCurves.from_environment()
    curves.log(1, {"train_loss": 3.0})
    assert curves._thread is None
    curves.close()


def test_training_goes_on_when_the_store_breaks(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    curves = LiveCurves("0" * 32, tracking_uri(root))
    with caplog.at_level(logging.WARNING, logger=live_curves.__name__):
        curves.log(1, {"train_loss": 3.0})
        time.sleep(0.3)
        curves.log(2, {"train_loss": 2.0})
        curves.close()
    assert "no live curves" in caplog.text
