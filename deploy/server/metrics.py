"""What Prometheus reads at /metrics. Labels name only models that are served, so strangers can't multiply them.

Several processes on one address (`processes`) keep their measures in files of one folder, as prometheus_client's
multiprocess mode has it: whichever is asked answers for all.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the variable prometheus_client looks at when it is imported

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
INPUTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's own registry of measures: nothing global, so that two servers may live in one process.

    How much memory and CPU a process takes is measured only where there is just one.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._shared = os.environ.get(SHARED_FOLDER)
        if self._shared:
            _forget_the_dead(Path(self._shared))
        else:
            ProcessCollector(registry=registry)
        self.requests = Counter(
            "modelpress_requests", "Requests by outcome.", ["route", "model", "version", "role", "status"],
            registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "modelpress_request_seconds", "From the request's head to the answer's end.", ["route", "model"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_inputs = Histogram(
            "modelpress_batch_inputs", "Inputs answered together.", ["model"], buckets=INPUTS, registry=registry
        )
        self.queue_seconds = Histogram(
            "modelpress_queue_seconds", "How long a batch's first input waited.", ["model"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.queue_inputs = Gauge(
            "modelpress_queue_inputs", "Inputs waiting now.", ["model", "version"], registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.live = Gauge(
            "modelpress_version_live", "Processes in which a version answers, by role.", ["model", "version", "role"],
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.swaps = Counter(
            "modelpress_swaps", "Versions put in the place of another.", ["model", "role"], registry=registry
        )
        self.failed_loads = Counter(
            "modelpress_failed_loads", "Versions that were offered and refused.", ["model", "version", "role"],
            registry=registry,
        )  # fmt: skip
        self.registry_errors = Counter(
            "modelpress_registry_errors", "Looks at the model registry that failed.", registry=registry
        )
        self.shadow = Counter(
            "modelpress_shadow_answers", "Requests a shadow answered too: equal, different, failed, dropped.",
            ["model", "version", "outcome"], registry=registry,
        )  # fmt: skip

        self._accounts: dict[tuple[str, ...], tuple[Counter, Histogram]] = {}

    def account(self, route: str, model: str, version: str, role: str, status: str, seconds: float) -> None:
        """Count a request that was answered (or was not) after so many seconds."""
        key = (route, model, version, role, status)
        known = self._accounts.get(key)
        if known is None:  # to find a series by its labels takes longer than to count in it
            known = self._accounts[key] = (self.requests.labels(*key), self.latency.labels(route, model))
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """Return all measures, of all processes, in Prometheus's text format."""
        if not self._shared:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, self._shared)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)

    def forget(self, gauge: Gauge, *labels: str) -> None:
        """Take a series out; files know no removal, there it stays at 0."""
        if self._shared:
            gauge.labels(*labels).set(0)
        else:
            gauge.remove(*labels)


def _forget_the_dead(folder: Path) -> None:
    """Drop what processes that are gone said of the present."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # two processes start at once
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
