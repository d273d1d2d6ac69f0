"""Which version answers: the models being served, swapped whole between two requests. Lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from components.core.errors import did_you_mean
from deploy.server.batching import Batcher
from deploy.server.graphs import GraphRunner
from deploy.server.loading import Model
from deploy.server.metrics import Metrics
from deploy.server.refusals import Refusal, not_ready
from deploy.server.settings import Reference, Role, Settings
from deploy.server.workers import Workers

log = logging.getLogger("modelpress.models")


class ServedVersion:
    """A loaded model with its queues."""

    def __init__(self, model: Model, workers: Workers, settings: Settings, metrics: Metrics) -> None:
        self.model = model

        inputs, seconds = metrics.batch_inputs.labels(model.name), metrics.queue_seconds.labels(model.name)

        def on_batch(size: int, waited: float) -> None:
            inputs.observe(size)
            seconds.observe(waited)

        waiting = metrics.queue_inputs.labels(model.name, model.version)
        self.batcher = Batcher(
            model.name, model.predictor.predict, workers, settings, on_batch, waiting.set, model.quick
        )
        self.graphs = GraphRunner(model, workers, settings)

    async def close(self) -> None:
        """Answer what waits, then end."""
        await self.batcher.close()
        await self.graphs.close()


class ServedModel:
    """All versions under one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Reference, ServedVersion] = {}
        self.before: ServedVersion | None = None  # live before the live one: a rollback finds it warm
        self._turn = 0.0

    def at(self, role: Role) -> tuple[Reference, ServedVersion] | None:
        """Return what stands in a role, if anything does."""
        return next(((ref, version) for ref, version in self.places.items() if ref.role == role), None)

    def pick(self, version: str | None) -> tuple[ServedVersion, Role]:
        """Return who answers: the version asked for, else the canary's share to the canary and the rest to the live.

        Raises:
            Refusal: 404 no such version, 503 none yet.
        """
        if version is not None:
            for reference, served in self.places.items():
                if served.model.version == version:
                    return served, reference.role
            known = sorted({served.model.version for served in self.places.values()})
            raise Refusal(404, f"{self.name}: version {version!r} is not served; served: {', '.join(known)}")
        live, canary = self.at("live"), self.at("canary")
        if live is None:
            raise not_ready()
        if canary is not None:
            self._turn += canary[0].percent
            if self._turn >= 100:  # every n-th request exactly, not by chance
                self._turn -= 100
                return canary[1], "canary"
        return live[1], "live"

    def versions(self) -> list[str]:
        """Return the versions that can be asked for, the live one first."""
        live = self.at("live")
        names = [live[1].model.version] if live else []
        return [*names, *sorted({served.model.version for served in self.places.values()} - set(names))]


class Shelf:
    """The models by name."""

    def __init__(self, references: list[Reference], settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.models = {reference.model: ServedModel(reference.model) for reference in references}
        self.ready = False
        self._workers = Workers(settings.threads)
        self._background: set[asyncio.Task[None]] = set()

    def model(self, name: str) -> ServedModel:
        """Return a model.

        Raises:
            Refusal: 404 no such model, 503 nothing is ready yet or any more.
        """
        if name not in self.models:
            raise Refusal(404, f"no model {name[:80]!r}{did_you_mean(name[:80], self.models)}")
        if not self.ready:
            raise not_ready()
        return self.models[name]

    def loaded(self, name: str, version: str, digest: str) -> Model | None:
        """Return a version that is loaded already, in whatever role; safe to call from another thread."""
        served = self.models[name]
        for candidate in [*served.places.values(), served.before]:
            if candidate and (candidate.model.version, candidate.model.digest) == (version, digest):
                return candidate.model
        return None

    async def place(self, reference: Reference, model: Model) -> None:
        """Put a version in its place. From the next request on it answers; the one before finishes what it has."""
        served = self.models[reference.model]
        old = served.places.get(reference)
        new = self._serving(served, model)
        served.places[reference] = new
        self.metrics.live.labels(model.name, model.version, reference.role).set(1)
        if old is None or old is new:
            return
        self.metrics.forget(self.metrics.live, model.name, old.model.version, reference.role)
        self.metrics.swaps.labels(model.name, reference.role).inc()
        retired = [old]
        if reference.role == "live":
            retired, served.before = [version for version in (served.before, old) if version], old
        for version in retired:
            self._retire(served, version)
        log.info("swapped", extra={"fields": {
            "model": model.name, "version": model.version, "before": old.model.version, "role": reference.role,
        }})  # fmt: skip

    def _serving(self, served: ServedModel, model: Model) -> ServedVersion:
        for version in [*served.places.values(), served.before]:
            if version and version.model is model:
                return version
        return ServedVersion(model, self._workers, self.settings, self.metrics)

    def _retire(self, served: ServedModel, version: ServedVersion) -> None:
        if version in served.places.values() or version is served.before:
            return
        self.background(version.close)
        if version.model.version not in served.versions():
            self.metrics.forget(self.metrics.queue_inputs, served.name, version.model.version)

    def background(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Do something nobody waits for, but that is finished before the server ends."""

        async def do() -> None:
            try:
                await work(*arguments)
            except Exception:
                log.exception("background work failed")

        task = asyncio.create_task(do())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _all_versions(self) -> Iterator[ServedVersion]:
        for served in self.models.values():
            yield from {*served.places.values(), *([served.before] if served.before else [])}

    async def close(self) -> None:
        """Finish what was accepted, then end the threads."""
        self.ready = False
        for version in list(self._all_versions()):
            await version.close()
        await asyncio.gather(*self._background)
        self._workers.stop()
