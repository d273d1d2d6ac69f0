"""Brings versions to the shelf: all of them at the start, then, every second, those whose alias has moved.

On threads of their own, one for each alias: looking, downloading, checking and warming never hold up the event loop,
nor one model's new version another's rollback. What is refused on the way leaves the version before it answering.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.core.bundle import MANIFEST
from components.core.errors import ModelpressError
from components.core.files import sha256_file
from components.tracking.live_version import LiveVersion, LiveVersions
from components.tracking.store import STATE
from deploy.server.fetch_bundle import fetch_bundle
from deploy.server.loading import Model, load_model
from deploy.server.settings import LocalBundle, Reference, RegisteredBundle
from deploy.server.shelf import Shelf

POLL_S = 1.0
RETRY_S = (10.0, 300.0)  # after a refused version: first, and at most

log = logging.getLogger("modelpress.supply")


@dataclass
class _Refused:
    """A version that could not be loaded, and when it is worth another try."""

    what: LiveVersion
    again: float
    pause: float = RETRY_S[0]


class Supply(threading.Thread):
    """Fills a shelf and keeps it up to date until `stop`.

    check: called with a bundle's folder before anything in it is parsed. on_failure: called from this thread when a
    reference can't be served at the start; a server that lacks a model does not become ready.
    """

    def __init__(
        self,
        shelf: Shelf,
        references: list[Reference],
        root: Path,
        check: Callable[[Path], None],
        on_failure: Callable[[ModelpressError], None],
    ) -> None:
        super().__init__(name="supply", daemon=True)
        self._shelf, self._references, self._root = shelf, references, root
        self._check, self._on_failure = check, on_failure
        self._loop = asyncio.get_running_loop()
        self._ending = threading.Event()
        self._served: dict[Reference, LiveVersion] = {}
        self._refused: dict[Reference, _Refused] = {}

    def stop(self) -> None:
        """Bring nothing more; what is being loaded right now is left."""
        self._ending.set()

    def run(self) -> None:
        """Load everything, say ready, then follow the aliases."""
        try:
            for reference in self._references:
                self._bring_first(reference)
        except ModelpressError as error:
            self._on_failure(error)
            return
        except Exception as error:
            log.exception("a bundle can't be loaded")
            self._on_failure(ModelpressError(f"a bundle can't be loaded: {error}"))
            return
        self._shelf.ready = True
        log.info("ready", extra={"fields": {"models": sorted(self._shelf.models)}})
        for reference in self._references:
            if _moves(reference):
                threading.Thread(
                    target=self._follow, args=[reference], name=f"follow {reference.model}", daemon=True
                ).start()

    def _bring_first(self, reference: Reference) -> None:
        bundle = reference.bundle
        if isinstance(bundle, LocalBundle):
            self._place(reference, load_model(reference.model, "1", bundle.folder, self._check))
            return
        found = LiveVersions(self._root).read(bundle.name, bundle.alias, bundle.version)
        if found is None:
            raise ModelpressError(
                f"{_uri(bundle)}: no such version in the registry; `modelpress versions {bundle.name}` lists them, "
                f"`modelpress promote {bundle.name}` makes one the champion"
            )
        self._place(reference, self._load(reference, bundle, found))
        self._served[reference] = found

    def _follow(self, reference: Reference) -> None:
        registry = LiveVersions(self._root)
        while not self._ending.wait(POLL_S):
            self._look(reference, registry)

    def _look(self, reference: Reference, registry: LiveVersions) -> None:
        bundle = reference.bundle
        assert isinstance(bundle, RegisteredBundle)
        try:
            found = registry.read(bundle.name, bundle.alias, bundle.version)
        except Exception as error:
            self._registry_gone(error)
            return
        if found is None or found == self._served.get(reference):
            return
        refused = self._refused.get(reference)
        if refused and refused.what == found and time.monotonic() < refused.again:
            return
        try:
            model = self._load(reference, bundle, found)
            if registry.read(bundle.name, bundle.alias, bundle.version) != found:
                return  # moved on while this one was loading: it must not go live any more
            self._place(reference, model)
        except Exception as error:
            self._refuse(reference, found, error)
            return
        self._served[reference] = found
        self._refused.pop(reference, None)

    def _load(self, reference: Reference, bundle: RegisteredBundle, found: LiveVersion) -> Model:
        version = str(found.version)
        loaded = self._shelf.loaded(reference.model, version, found.bundle_sha256)
        if loaded:
            return loaded
        began, uri = time.perf_counter(), f"models:/{bundle.name}/{version}"
        folder = self._root / STATE / "bundles" / bundle.name / version
        try:
            if not _is(folder, found):
                raise ModelpressError(f"{uri}: not here yet")
            model = load_model(reference.model, version, folder, self._check)
        except ModelpressError:  # or damaged here: the registry has an intact one, or it is refused for good
            model = load_model(reference.model, version, fetch_bundle(self._root, uri), self._check)
        log.info("loaded", extra={"fields": {
            "model": model.name, "version": version, "seconds": round(time.perf_counter() - began, 2),
        }})  # fmt: skip
        return model

    def _place(self, reference: Reference, model: Model) -> None:
        asyncio.run_coroutine_threadsafe(self._shelf.place(reference, model), self._loop).result()

    def _refuse(self, reference: Reference, found: LiveVersion, error: Exception) -> None:
        before = self._refused.get(reference)
        pause = min(before.pause * 2, RETRY_S[1]) if before and before.what == found else RETRY_S[0]
        self._refused[reference] = _Refused(found, time.monotonic() + pause, pause)
        labels = (reference.model, str(found.version), reference.role)
        self._shelf.metrics.failed_loads.labels(*labels).inc()
        still = self._served.get(reference)
        log.error("refused a version; the one before goes on", extra={"fields": {
            "model": reference.model, "version": str(found.version), "role": reference.role,
            "still": str(still.version) if still else None, "reason": str(error), "again_in_s": pause,
        }}, exc_info=None if isinstance(error, ModelpressError) else error)  # fmt: skip

    def _registry_gone(self, error: Exception) -> None:
        log.warning("the model registry does not answer", extra={"fields": {"reason": str(error)}})
        self._shelf.metrics.registry_errors.inc()


def _moves(reference: Reference) -> bool:
    return isinstance(reference.bundle, RegisteredBundle) and reference.bundle.alias is not None


def _uri(bundle: RegisteredBundle) -> str:
    return f"models:/{bundle.name}" + (f"@{bundle.alias}" if bundle.alias else f"/{bundle.version}")


def _is(folder: Path, found: LiveVersion) -> bool:
    try:
        return sha256_file(folder / MANIFEST) == found.bundle_sha256
    except OSError:
        return False
