"""The plan of a run, read from DVC: which stages, in what order, which are stale, and whose recipe each belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError, did_you_mean
from components.core.params import Params
from pipelines.dvc_access import locked_repo, params_parsed_once, planned_stages, root_cause, stage_name

IN_USE = "in use by a stage that runs now"  # what cannot be compared with dvc.lock until that has ended


@dataclass(frozen=True)
class PlannedStage:
    """One stage of dvc.yaml.

    depends_on: the planned stages whose outputs it reads.
    stale: its command, a dependency or an output differs from dvc.lock now.
    upstream_stale: a stage it reads from, directly or not, is stale.
    """

    name: str
    depends_on: tuple[str, ...]
    stale: bool
    upstream_stale: bool

    @property
    def family(self) -> str:
        """The stage's name in dvc.yaml, without the key of its `foreach`: `train` of `train@x`."""
        return self.name.partition("@")[0]

    @property
    def key(self) -> str:
        """The key of its `foreach`, or an empty string."""
        return self.name.partition("@")[2]


def read_plan(root: Path, targets: Sequence[str] | None = None, *, check: bool = True) -> dict[str, PlannedStage]:
    """Return the targets' stages and all they depend on, in the order `dvc repro` visits them (all without targets).

    Args:
        check: False leaves out the comparison with dvc.lock and calls every stage stale.

    Raises:
        ModelpressError: no DVC repository, a malformed dvc.yaml, an unknown target, outputs in use by another process.
    """
    from dvc.lock import LockError

    with _readable_repo(root) as repo, params_parsed_once():
        graph, stages = planned_stages(repo, list(targets) if targets else None)
        plan: dict[str, PlannedStage] = {}
        for stage in stages:
            try:
                stale = stage.changed() if check else True
            except LockError as error:
                raise ModelpressError(
                    f"{stage.addressing}: {str(root_cause(error)).splitlines()[0]}; wait for it"
                ) from None
            depends_on = tuple(stage_name(dependency) for dependency in graph.successors(stage))
            upstream = any(plan[name].stale or plan[name].upstream_stale for name in depends_on)
            plan[stage_name(stage)] = PlannedStage(stage_name(stage), depends_on, stale, upstream)
        return plan


def is_stale(root: Path, name: str) -> bool:
    """Return whether a stage differs from dvc.lock now (its dependencies may have been reproduced unchanged)."""
    with _readable_repo(root) as repo:
        _, stages = planned_stages(repo, [name])
        return bool(stages[-1].changed())


def why_stale(root: Path, targets: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Return what differs from dvc.lock for each planned stage, e.g. ["recipes.x.train.epochs: 5 -> 3"].

    Raises:
        ModelpressError: a kill left half of DVC's list of paths in use.
    """
    with _readable_repo(root) as repo, params_parsed_once():
        _, stages = planned_stages(repo, list(targets) if targets else None)
        return {stage_name(stage): _reasons(stage) for stage in stages}


@contextmanager
def _readable_repo(root: Path) -> Iterator[Any]:
    """Yield a locked repo, to be compared with dvc.lock; half a list of paths in use is one line."""
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError

    with locked_repo(root) as repo:
        try:
            yield repo
        except (RWLockFileCorruptedError, RWLockFileFormatError):
            raise ModelpressError(
                f"{Path(repo.tmp_dir) / 'rwlock'}: half written by a process that was killed; `modelpress run` mends it"
            ) from None


def _reasons(stage: Any) -> list[str]:
    """Return in words what differs between a stage and its entry in dvc.lock."""
    from dvc.lock import LockError

    try:
        status = stage.status()
    except LockError:
        return [IN_USE]
    reasons = []
    for entry in chain.from_iterable(status.values()):
        if isinstance(entry, str):  # e.g. "changed command"
            reasons.append(entry)
            continue
        for changes in entry.values():
            for path, what in changes.items():
                if isinstance(what, str):
                    reasons.append(f"{path} {what}")
    for dependency in stage.params:
        before, now = dependency.hash_info.value or {}, dependency.read_params()
        reasons += [text for key in now if key in before for text in _differences(key, before[key], now[key])]
    return reasons


def _differences(key: str, before: Any, now: Any) -> list[str]:
    """Return `a.b.c: old -> new` for each value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(inner for inner in before if inner not in now)]
        return [text for inner in keys for text in _differences(f"{key}.{inner}", before.get(inner), now.get(inner))]
    return [] if before == now else [f"{key}: {before} -> {now}"]


def targets_of(recipes: Sequence[str], params: Params) -> list[str]:
    """Return the last stage of each recipe.

    Raises:
        ModelpressError: params.yaml has no such recipe.
    """
    for recipe in recipes:
        if recipe not in params.recipes:
            raise ModelpressError(f"no recipe {recipe!r} in params.yaml{did_you_mean(recipe, params.recipes)}")
    return [f"report@{recipe}" for recipe in recipes]


def recipe_of(stage: PlannedStage, params: Params, chosen: Sequence[str]) -> str | None:
    """Return the recipe a stage belongs to: its key's, or the first chosen one that uses its dataset, or the first."""
    if stage.key in params.recipes:
        return stage.key
    for derived in (params.students.get(stage.key), params.variants.get(stage.key)):
        if derived:
            return derived.recipe
    users = [name for name in chosen if not stage.key or params.recipes[name].dataset == stage.key]
    return users[0] if users else None
