"""A real `modelpress serve` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from tests.workspace import REPOSITORY

PATIENCE_S = 60.0


class ModelServer:
    """Runs from `with` to its end; `url` once it listens."""

    def __init__(
        self, root: Path, *arguments: str, wait: bool = True, environment: dict[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "pipelines.cli", "serve", *arguments, "--port", "0"]
        self._root, self._wait = root, wait
        self._environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **(environment or {})}
        self._environment.setdefault("MODELPRESS_THREADS", "1")
        self.session = requests.Session()

    def __enter__(self) -> ModelServer:
        self._log = (self._root / "server.log").open("w+b")
        self.process = subprocess.Popen(
            self._command, cwd=self._root, env=self._environment, stderr=self._log, stdout=self._log
        )
        self.url = str(self.wait_for_event("listening")["url"])
        if self._wait:
            self.wait_for_event("ready")
        return self

    def __exit__(self, *_: Any) -> None:
        self.session.close()
        if self.process.poll() is None:
            self.stop()
        self._log.close()

    def stop(self) -> int:
        """End it as a supervisor does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def events(self) -> list[dict[str, Any]]:
        """Return the log so far, a dict a line; what is no JSON stands under "text"."""
        lines = (self._root / "server.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) if line.startswith("{") else {"text": line} for line in lines]

    def wait_for_event(self, event: str) -> dict[str, Any]:
        """Return the first log line of that event, once it is there."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            found = [line for line in self.events() if line.get("event") == event]
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {event!r}: {self.events()}")

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a path."""
        return self.session.get(self.url + path, timeout=PATIENCE_S, **options)

    def post(self, path: str, value: Any = None, **options: Any) -> requests.Response:
        """POST a JSON value."""
        return self.session.post(self.url + path, json=value, timeout=PATIENCE_S, **options)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, summed over all series that have these labels; 0 where there is none."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total += float(value)
        return total
