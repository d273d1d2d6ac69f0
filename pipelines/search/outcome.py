"""What a search found: the frontier, the choice or the nearest miss, which limit binds and why, a block to paste."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from components.core.params import Budget, Params, Variant
from components.evaluation.selection import (
    NO_GAIN,
    best,
    measured_row,
    megabytes_text,
    nearest_miss,
    p50_of,
    quality_of,
    quality_text,
    select,
    selection_of,
    shortfalls,
)
from pipelines.search.space import Candidate, form_of

Row = Mapping[str, Any]
LIFTED = {"max_size_mb": math.inf, "max_p50_ms": math.inf, "min_quality": 0.0}
FLAGS = {"max_size_mb": "--max-size", "max_p50_ms": "--max-p50", "min_quality": "--min-quality"}


@dataclass(frozen=True)
class Limit:
    """What one limit did: `binds` where a better variant would be chosen without it, None where that is unknown."""

    name: str
    binds: bool | None
    text: str


def conclude(recipe: str, budget: Budget, variants: Sequence[Row], latency: Row) -> dict[str, Any]:
    """Return a selection over measured variants as metrics/<recipe>/selection.json holds it.

    Where none is within the budget, the nearest miss is selected and `met` is false.
    """
    rows = [measured_row(row, latency) for row in variants]
    if best(rows, budget):
        return select(recipe, budget, variants, latency)
    nearest = nearest_miss(rows, budget)
    misses = miss_in_words(nearest, budget) or [f"{NO_GAIN[budget.gain]} what it was made from"]
    reason = f"Nothing fits. The nearest miss: {'; '.join(misses)}."
    return selection_of(recipe, budget, variants, latency, nearest["variant"], reason, met=False)


def miss_in_words(row: Row, budget: Budget) -> list[str]:
    """Return by how much a row misses each limit it misses."""
    figures = {
        "max_size_mb": f"{megabytes_text(row['size_bytes'])} MB",
        "max_p50_ms": f"{p50_of(row):.3g} ms",
        "min_quality": f"{row['quality_vs_teacher']:.2%} of the teacher's quality",
    }
    return [
        f"{figures[miss.limit]} misses {_stated(miss.limit, budget)} by {miss.relative:.1%} of it"
        for miss in shortfalls(row, budget)
    ]


def limits(selection: Row, given_up: Mapping[str, int]) -> list[Limit]:
    """Return each limit with whether it binds and why, by what would be chosen among the same variants without it.

    given_up: how many trials were given up for a limit, by its name in the budget.
    """
    budget, rows = Budget(**selection["budget"]), selection["variants"]
    chosen = next(row for row in rows if row["variant"] == selection["selected"])
    return [_limit(name, budget, rows, chosen, bool(selection["met"]), given_up.get(name, 0)) for name in FLAGS]


def _limit(name: str, budget: Budget, rows: Sequence[Row], chosen: Row, met: bool, given_up: int) -> Limit:
    without, rival = _rival(name, budget, rows, met)
    binds: bool | None = True if rival else None if given_up else False
    trials = f"; {given_up} trials were given up for it" if given_up else ""
    if not met:
        missing = sum(miss.limit == name for row in rows for miss in shortfalls(row, budget))
        fits = f", {without} {rival['variant']} fits ({_figures(rival)})" if rival else ""
        why = f"missed by {missing} of {len(rows)}{fits}{trials}"
    elif name == "min_quality":
        refused = [row for row in rows if [miss.limit for miss in shortfalls(row, budget)] == [name]]
        binds, why = _quality_floor(refused, chosen)
    elif rival:
        why = f"binds: {without} {rival['variant']} is chosen ({_figures(rival)}){trials}"
    else:
        size = chosen["size_bytes"] / 1e6 / budget.max_size_mb
        used = f"{size if name == 'max_size_mb' else p50_of(chosen) / budget.max_p50_ms:.0%} of it is used"
        unknown = f"{used}; {given_up} trials beyond it were given up early, so a better one may lie there"
        why = unknown if given_up else f"does not bind: {used}, nothing better lies beyond"
    return Limit(name, binds, f"{_stated(name, budget)} {why}")


def _rival(name: str, budget: Budget, rows: Sequence[Row], met: bool) -> tuple[str, Row | None]:
    """Return in words without which limits another is chosen, and that one; None where a limit changes nothing.

    What is too large is often too slow as well: a limit of the two is then lifted from a budget without the other.
    """
    other = {"max_size_mb": ["max_p50_ms"], "max_p50_ms": ["max_size_mb"]}.get(name, [])
    for lifted in ([], other):
        kept, rival = (_best_without(names, budget, rows) for names in (lifted, [name, *lifted]))
        if rival is not kept and (met or kept is None):
            return f"without {' and '.join(['it', *(FLAGS[each] for each in lifted)])}", rival
    return "", None


def _best_without(lifted: Sequence[str], budget: Budget, rows: Sequence[Row]) -> Row | None:
    budget = budget.model_copy(update={name: LIFTED[name] for name in lifted})
    return best(rows, budget)


def _quality_floor(refused: Sequence[Row], chosen: Row) -> tuple[bool, str]:
    """Return whether the floor shuts out smaller or faster variants; better ones than the chosen it cannot."""
    gains = [
        f"{row['variant']} is {word} ({_figures(row)})"
        for word, cost in (("smaller", _size), ("faster", p50_of))
        if refused and cost(row := min(refused, key=cost)) < cost(chosen)
    ]
    if not gains:
        return False, "does not bind: of what was trained, nothing below it is smaller or faster"
    return True, f"binds: below it, {' and '.join(gains)}"


def _size(row: Row) -> float:
    return float(row["size_bytes"])


def _figures(row: Row) -> str:
    share = f"{row['quality_vs_teacher']:.1%} of the teacher's"
    return f"{quality_text(quality_of(row))}, {share}, {megabytes_text(row['size_bytes'])} MB, {p50_of(row):.3g} ms"


def _stated(name: str, budget: Budget) -> str:
    """Return a limit as the command line states it."""
    size = budget.max_size_mb
    values = {
        "max_size_mb": f"{size:g}MB" if size >= 1 else f"{size * 1000:g}KB",
        "max_p50_ms": f"{budget.max_p50_ms:g}ms",
        "min_quality": f"{budget.min_quality:g}",
    }
    return f"{FLAGS[name]} {values[name]}"


def block(recipe: str, candidate: Candidate, params: Params) -> dict[str, Any]:
    """Return the `students` and `variants` that make a candidate, under names that params.yaml does not have yet."""
    form = form_of(Variant.model_validate({"recipe": recipe, "from": recipe, **candidate.variant}))
    taken = {*params.students, *params.variants, *params.recipes}
    names = (f"{recipe}-found{number or ''}" for number in chain([0], count(2)))
    student = next(name for name in names if not taken & {name, f"{name}-{form}"})
    variant = f"{student}-{form}"
    parent = student if candidate.passes else candidate.start
    students = {student: {"recipe": recipe, "from": candidate.start, "passes": candidate.passes}}
    return {
        **({"students": students} if candidate.passes else {}),
        "variants": {variant: {"recipe": recipe, "from": parent, **candidate.variant}},
    }
