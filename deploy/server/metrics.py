"""What Prometheus reads at /metrics. Labels name only models that are served, so strangers can't multiply them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
INPUTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's own registry of measures: nothing global, so that two servers may live in one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
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
            "modelpress_queue_inputs", "Inputs waiting now.", ["model", "version"], registry=registry
        )
        self.live = Gauge(
            "modelpress_version_live", "1 for each version that answers, by role.", ["model", "version", "role"],
            registry=registry,
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

    def text(self) -> bytes:
        """Return all measures in Prometheus's text format."""
        return generate_latest(self._registry)
