"""Which units stay when a network is pruned: by rank, by threshold, in round numbers. Every layer keeps at least one.

`importance` holds a tensor (units,) for each group; the units to keep come back as a list of indices for each group, in
their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from components.core.errors import ConfigError, did_you_mean
from components.models.pruning_groups import PruningGroup


def check_kinds(groups: Sequence[PruningGroup], remove: Mapping[str, float], most: float) -> None:
    """Raise ConfigError for each kind of unit that no group has, and each number outside [0, most)."""
    known = sorted({group.kind for group in groups})
    has = ", ".join(known) or "no units that can be removed"
    problems = []
    for kind, number in remove.items():
        if kind not in known:
            problems.append(f"prune.remove.{kind}: this model has {has}{did_you_mean(kind, known)}")
        elif not 0 <= number < most:
            problems.append(f"prune.remove.{kind}: {number} is not in [0, {most:g})")
    if problems:
        raise ConfigError(problems)


def choose(
    groups: Sequence[PruningGroup],
    importance: Sequence[Tensor],
    remove: Mapping[str, float],
    scope: Literal["global", "layer"] = "global",
    units: Sequence[int] | None = None,
    max_ratio: float = 1.0,
) -> list[list[int]]:
    """Remove the least important fraction of each kind, counted over all its layers or in each of them.

    units: the groups' units that the fractions are of, where some are gone already; those count as removed.
    max_ratio: the largest fraction that one group may lose.
    """
    units = units or [group.units for group in groups]
    least = [max(1, count - int(max_ratio * count)) for count in units]
    kept = [list(range(group.units)) for group in groups]
    for kind, fraction in remove.items():
        mine = [i for i, group in enumerate(groups) if group.kind == kind]
        for rivals in [mine] if scope == "global" else [[i] for i in mine]:
            ranked = sorted((float(importance[i][unit]), i, unit) for i in rivals for unit in kept[i])
            before = sum(units[i] for i in rivals)
            to_go = round(fraction * before) - (before - len(ranked))
            for _, i, unit in ranked:
                if to_go > 0 and len(kept[i]) > least[i]:
                    kept[i].remove(unit)
                    to_go -= 1
    return kept


def reach_threshold(
    groups: Sequence[PruningGroup], squared_norms: Sequence[Tensor], limits: Mapping[str, float]
) -> list[list[int]]:
    """Remove the units of each kind whose weights' norm lies below the kind's limit."""
    kept = []
    for group, squares in zip(groups, squared_norms, strict=True):
        reached = (squares.sqrt() >= limits.get(group.kind, 0.0)).nonzero()[:, 0].tolist()
        kept.append(reached or [int(squares.argmax())])
    return kept


def round_up(kept: Sequence[Sequence[int]], importance: Sequence[Tensor], multiple: int) -> list[list[int]]:
    """Take the most important removed units back until each group keeps a multiple, or all it has."""
    rounded = []
    for rows, values in zip(kept, importance, strict=True):
        gone = sorted(set(range(len(values))) - set(rows), key=lambda unit: -float(values[unit]))
        rounded.append(sorted([*rows, *gone[: -len(rows) % multiple]]))
    return rounded
