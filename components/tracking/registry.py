"""The registered versions of a recipe: which is live (the alias `champion`), promotion past a gate, and rollback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from components.core.bundle import MANIFEST, Bundle
from components.core.config import parse_config
from components.core.errors import ModelpressError, did_you_mean
from components.core.files import new_folder, sha256_file
from components.core.params import Budget, load_params
from components.evaluation.selection import shortfalls
from components.tracking.champion_history import Move, as_tag, live_periods, live_stack, now, read_moves
from components.tracking.registration import BUNDLE_ARTIFACT, register_if_new
from components.tracking.registry_uri import parse_registry_uri
from components.tracking.store import STATE, connect, store_problem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

__all__ = ["download_bundle", "promote", "register_if_new", "rollback", "upload_signature", "versions"]

CHAMPION = "champion"
# How much lower (relative) a new champion's quality may be than the current one's: the same tie `select` allows.
TOLERANCE = 0.005


class GateRefused(ModelpressError):
    """A version can't become the champion: a limit is missed, the champion is better, or it is the champion."""


def promote(
    root: Path,
    recipe: str,
    version: int | None = None,
    budget: Budget | None = None,
    force: bool = False,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Make a version (the newest by default) the champion; return {"recipe", "version", "variant", "previous"}.

    Gate: within the budget (where none is given, the one it was selected under), and quality not below the champion's
    by more than `tolerance` (relative).
    `force` opens the gate, but a bundle that is damaged is never promoted.

    Raises:
        GateRefused: which limit is missed and by how much, or that it is the champion already.
        ModelpressError: no such version, or a damaged bundle.
    """
    client, model = _registered(root, recipe)
    candidate = _version(client, recipe, version if version is not None else _newest(client, recipe))
    live = _champion(model)
    if live == int(candidate.version):
        raise GateRefused(f"{recipe}: version {live} is the champion already; `modelpress versions {recipe}` lists all")
    _verified_bundle(client, root, candidate)
    champion = _version(client, recipe, live) if live else None
    problems = [] if force else _gate(candidate, champion, budget or _own_budget(candidate), tolerance)
    if problems:
        raise GateRefused(
            f"{recipe}: version {candidate.version} ({candidate.tags['variant']}) not promoted: {'; '.join(problems)}; "
            f"`modelpress promote {recipe} {candidate.version} --force` promotes it all the same"
        )
    return _move_champion(client, model, candidate, "promote")


def rollback(root: Path, recipe: str) -> dict[str, Any]:
    """Make the version that was live before the champion live again; return what `promote` returns.

    Raises:
        ModelpressError: no champion yet, none before it, or its bundle is damaged.
    """
    client, model = _registered(root, recipe)
    live = _champion(model)
    if live is None:
        raise ModelpressError(f"{recipe}: no champion yet; `modelpress promote {recipe}` makes one")
    stack = live_stack(read_moves(model.tags), live)
    if len(stack) < 2:
        raise ModelpressError(f"{recipe}: no version was live before {live}; `modelpress versions {recipe}` lists all")
    earlier = _version(client, recipe, stack[-2])
    _verified_bundle(client, root, earlier)
    return _move_champion(client, model, earlier, "rollback")


def versions(root: Path, recipe: str) -> list[dict[str, Any]]:
    """Return the recipe's versions, newest first, each with its figures and when it was live.

    Keys: version, variant, metric, quality, quality_vs_teacher, size_bytes, p50_ms, budget_met, bundle_sha256,
    registered (ms since 1970), champion (bool), live ([{"from", "to"}], UTC; `to` None while live).

    Raises:
        ModelpressError: nothing is registered under that name.
    """
    client, model = _registered(root, recipe)
    live = _champion(model)
    periods = live_periods(read_moves(model.tags), live)
    found = sorted(client.search_model_versions(f"name='{recipe}'"), key=lambda version: -int(version.version))
    return [
        {
            **_figures(version),
            "registered": version.creation_timestamp,
            "champion": int(version.version) == live,
            "live": periods.get(int(version.version), []),
        }
        for version in found
    ]


def download_bundle(root: Path, uri: str) -> Path:
    """Return the folder of the verified bundle behind `models:/NAME@champion` (or another alias) or `models:/NAME/3`.

    Raises:
        ModelpressError: not such a URI, no such model, version or alias, or a damaged bundle.
    """
    client, version = _named(root, uri)
    return _verified_bundle(client, root, version).root


def upload_signature(root: Path, uri: str, signature: Path) -> None:
    """Put a bundle's signature beside its registered files; the manifest, and so the version, stays the same.

    Raises:
        ModelpressError: not such a URI, no such model, version or alias.
    """
    client, version = _named(root, uri)
    client.log_artifact(version.run_id, str(signature), BUNDLE_ARTIFACT)


def _named(root: Path, uri: str) -> tuple[MlflowClient, ModelVersion]:
    recipe, alias, number = parse_registry_uri(uri)
    client, model = _registered(root, recipe)
    if alias and alias not in model.aliases:
        next_step = f"`modelpress promote {recipe}` makes one" if alias == CHAMPION else "see `modelpress versions`"
        raise ModelpressError(f"{uri}: {recipe} has no {alias} yet; {next_step}")
    return client, _version(client, recipe, int(model.aliases[alias]) if number is None else number)


def _registered(root: Path, recipe: str) -> tuple[MlflowClient, RegisteredModel]:
    client = connect(root)
    from mlflow.exceptions import MlflowException  # not before connect(), which decides how MLflow is imported

    try:
        return client, client.get_registered_model(recipe)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise store_problem(root, error) from None
        raise ModelpressError(_why_unregistered(client, root, recipe)) from None


def _why_unregistered(client: MlflowClient, root: Path, recipe: str) -> str:
    """Return what to do about a name the registry lacks: run the recipe, or type what was meant."""
    params = root / "params.yaml"  # a folder that only asks a registry has none
    recipes = load_params(params).recipes.keys() if params.is_file() else set()
    if recipe in recipes:
        return f"{recipe}: nothing registered yet; `modelpress run {recipe}` registers its selection"
    registered = {model.name for model in client.search_registered_models(max_results=1000)}
    hint = did_you_mean(recipe, registered | recipes) or "; `modelpress run RECIPE` registers a recipe's selection"
    return f"{recipe}: neither registered nor a recipe of params.yaml{hint}"


def _version(client: MlflowClient, recipe: str, number: int) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(recipe, str(number))
    except MlflowException:
        raise ModelpressError(
            f"{recipe}: no version {number}; `modelpress versions {recipe}` lists those there are"
        ) from None


def _newest(client: MlflowClient, recipe: str) -> int:
    numbers = [int(version.version) for version in client.search_model_versions(f"name='{recipe}'")]
    if not numbers:
        raise ModelpressError(f"{recipe}: no version left; `modelpress run {recipe}` registers its selection")
    return max(numbers)


def _champion(model: RegisteredModel) -> int | None:
    return int(model.aliases[CHAMPION]) if CHAMPION in model.aliases else None


def _figures(version: ModelVersion) -> dict[str, Any]:
    tags = version.tags
    return {
        "version": int(version.version),
        **{key: tags.get(key) for key in ("variant", "metric", "bundle_sha256")},
        **{key: float(tags[key]) for key in ("quality", "quality_vs_teacher", "p50_ms") if key in tags},
        "size_bytes": int(tags.get("size_bytes", 0)),
        "budget_met": tags.get("budget_met") == "true",
    }


def _gate(candidate: ModelVersion, live: ModelVersion | None, budget: Budget, tolerance: float) -> list[str]:
    """Return why a version may not become the champion."""
    tags = candidate.tags
    row = {
        "size_bytes": int(tags["size_bytes"]),
        "latency_ms": {"batch_1": {"p50": float(tags["p50_ms"])}},
        "quality_vs_teacher": float(tags["quality_vs_teacher"]),
    }
    problems = [miss.text for miss in shortfalls(row, budget)]
    if live is None:
        return problems
    if live.tags["metric"] != tags["metric"]:
        return [*problems, f"its metric {tags['metric']} can't be compared with the champion's {live.tags['metric']}"]
    sign = -1 if tags.get("mode") == "min" else 1
    now_live, new = float(live.tags["quality"]), float(tags["quality"])
    floor = now_live - sign * tolerance * abs(now_live)
    if sign * new < sign * floor:
        problems.append(
            f"{tags['metric']} {new:.4g} is worse than the champion's (version {live.version}) {now_live:.4g} "
            f"by {abs(new - now_live) / max(abs(now_live), 1e-12):.2%}, tolerance {tolerance:.2%}"
        )
    return problems


def _own_budget(version: ModelVersion) -> Budget:
    """Return the budget a version was selected under."""
    return parse_config(Budget, json.loads(version.tags["budget"]), f"{version.name} {version.version}: budget")


def _verified_bundle(client: MlflowClient, root: Path, version: ModelVersion) -> Bundle:
    """Return a version's bundle, downloaded unless an intact copy is here; its manifest must be the registered one."""
    folder = root / STATE / "bundles" / version.name / str(version.version)
    digest = version.tags.get("bundle_sha256")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # who comes second finds the first one's copy
        try:
            if sha256_file(folder / MANIFEST) == digest:
                return Bundle.load(folder)
        except (OSError, ModelpressError):
            pass  # none here yet, or it was damaged here: the registry has another
        with new_folder(folder) as temporary:
            _download(client, version, temporary)
            if sha256_file(temporary / MANIFEST) != digest:
                raise ModelpressError(
                    f"{version.name}: version {version.version}'s bundle was changed after it was registered"
                )
            Bundle.load(temporary)
        return Bundle.load(folder)


def _download(client: MlflowClient, version: ModelVersion, to: Path) -> None:
    from mlflow.exceptions import MlflowException

    try:
        downloaded = Path(client.download_artifacts(version.run_id, BUNDLE_ARTIFACT, str(to)))
        for item in downloaded.iterdir():
            item.rename(to / item.name)
        downloaded.rmdir()
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelpressError(f"{version.name}: version {version.version} has no bundle any more ({reason})") from None


def _move_champion(client: MlflowClient, model: RegisteredModel, to: ModelVersion, action: Any) -> dict[str, Any]:
    moves = read_moves(model.tags)
    # First the history: if a kill comes between, the alias, which is the truth, has not moved (see live_stack).
    client.set_registered_model_tag(model.name, *as_tag(Move(action, int(to.version), now()), len(moves)))
    client.set_registered_model_alias(model.name, CHAMPION, str(to.version))
    return {
        "recipe": model.name,
        "version": int(to.version),
        "variant": to.tags.get("variant"),
        "previous": _champion(model),
    }
