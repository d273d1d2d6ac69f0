"""`modelpress serve`: from what a user calls bundles to what the server is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from components.core.bundle import Bundle
from components.core.errors import ModelpressError, did_you_mean
from components.core.params import load_params
from components.tracking.registry_uri import parse_registry_uri
from deploy.server.settings import LocalBundle, Reference, RegisteredBundle, Settings
from pipelines.bundle_names import find_bundle


def serve(
    root: Path,
    bundles: list[str],
    canaries: list[str],
    shadows: list[str],
    settings: Settings,
    public_key: Path | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; no bundle named: the default recipes of params.yaml.

    public_key: of the only signer whose bundles are served; of anyone's without.

    Raises:
        ModelpressError: no such bundle, two under one name, or not signed by the key's owner.
    """
    check = partial(_check, public_key)
    names = bundles or list(load_params(root / "params.yaml").default)
    references = references_of(root, names, canaries, shadows, check)
    from deploy.server.serve import serve as start

    start(references, settings, root, check)


def _check(public_key: Path | None, folder: Path) -> None:
    if public_key is not None:
        from deploy.signing import verify_signature

        verify_signature(folder, public_key)


def references_of(
    root: Path,
    bundles: list[str],
    canaries: list[str],
    shadows: list[str],
    check: Callable[[Path], None] = lambda folder: None,
) -> list[Reference]:
    """Return what is to be served: the first bundle of a name answers, the others only those who ask for them.

    check: called with a folder before anything in it is parsed.

    Raises:
        ModelpressError: no such bundle, two under one name, or a canary or shadow of nothing that is served.
    """
    references: list[Reference] = []
    for name in bundles:
        reference = _reference(root, name, check)
        taken = [other for other in references if other.model == reference.model]
        if taken and isinstance(reference.bundle, LocalBundle):
            raise ModelpressError(
                f"{name}: a model {reference.model} is served already; register both and name their versions, "
                f"models:/{reference.model}/1 models:/{reference.model}/2"
            )
        references.append(replace(reference, role="pinned") if taken else reference)
    for text in canaries:
        name, percent = _percent(text)
        references.append(_beside(references, replace(_registered(name), role="canary", percent=percent), text))
    for text in shadows:
        references.append(_beside(references, replace(_registered(text), role="shadow"), text))
    return references


def _reference(root: Path, name: str, check: Callable[[Path], None]) -> Reference:
    if name.startswith("models:/"):
        return _registered(name)
    folder = find_bundle(root, name)
    if (Path(name) / "manifest.json").is_file():  # named by its folder: what it is called stands inside
        check(folder)
        name = Bundle.load(folder).manifest.variant
    return Reference(name, LocalBundle(folder.resolve()))


def _registered(uri: str) -> Reference:
    name, alias, version = parse_registry_uri(uri)
    return Reference(name, RegisteredBundle(name, alias, version))


def _percent(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        percent = float(number)
    except ValueError:
        percent = -1.0
    if not 0 < percent < 100:
        raise ModelpressError(f"--canary {text}: give a share between 0 and 100, e.g. models:/RECIPE/4=10")
    return name, percent


def _beside(references: list[Reference], reference: Reference, text: str) -> Reference:
    """Refuse a second version in the same role, or one beside a model that is not served."""
    models = {other.model for other in references if other.role == "live"}
    if reference.model not in models:
        raise ModelpressError(f"{text}: no model {reference.model} is served{did_you_mean(reference.model, models)}")
    if any(other.model == reference.model and other.role == reference.role for other in references):
        raise ModelpressError(f"{text}: {reference.model} has a {reference.role} already; give one")
    return reference
