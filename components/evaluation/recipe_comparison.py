"""One page that sets recipes beside each other: those of one task and one dataset, with what differs between them.

A report shows one teacher and its variants; what an architecture, a cell or a learning rate is worth shows only beside
others: separable against full convolutions, dense against residual ones, LSTM against GRU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from components.core.files import write_text
from components.core.flatten import flatten
from components.evaluation.report import page_environment
from components.evaluation.selection import chosen_row, p50_of, quality_text

TEMPLATE = "recipe_comparison.html.j2"
WORK = "multiply_adds_m"  # a score that is no quality: millions of multiplications with an addition for one input


@dataclass(frozen=True)
class Trained:
    """A recipe that was run.

    settings: its block of params.yaml. model: metrics/<recipe>/models/<recipe>.json. selection:
    metrics/<recipe>/selection.json. has_page: whether its own page is there.
    """

    recipe: str
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    selection: Mapping[str, Any]
    has_page: bool = True


def write_comparison(trained: Sequence[Trained], out: Path) -> None:
    """Write the page; its links lead to the recipes' own pages in folders beside it."""
    groups = [_group(list(members)) for _, members in groupby(sorted(trained, key=_kind), key=_kind)]
    write_text(out, page_environment().get_template(TEMPLATE).render(groups=groups))


def differences(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of each mapping the settings (dotted names) that are not the same in all of them."""
    flat = [flatten(one) for one in settings]
    names = list(dict.fromkeys(name for one in flat for name in one))
    absent = object()
    differing = [name for name in names if any(one.get(name, absent) != flat[0].get(name, absent) for one in flat)]
    return [{name: one[name] for name in differing if name in one} for one in flat]


def _kind(trained: Trained) -> tuple[str, str]:
    return trained.settings["dataset"], trained.settings["task"]


def _group(members: Sequence[Trained]) -> dict[str, Any]:
    """Return the view of one table, the best teacher first."""
    dataset, task = _kind(members[0])
    metric = _common_metric(members)
    rows = [
        _row(one, differing, metric)
        for one, differing in zip(members, differences([_told(one.settings) for one in members]), strict=True)
    ]
    shared = _shared([row["others"] for row in rows])
    best = 1 if chosen_row(members[0].selection).get("mode") == "min" else -1
    rows.sort(key=lambda row: (best * row["dev"], row["recipe"]))
    return {
        "dataset": dataset,
        "task": task.replace("_", " "),
        "metric": _words(metric) + (", less is better" if best == 1 else ""),
        "shared": _listed(shared),
        "rows": [{**row, **_shares(row, rows), "others": _listed(row["others"], shared)} for row in rows],
        "work": any(row["work"] for row in rows),
    }


def _shared(others: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the scores that several recipes have in common: those of baselines, which no recipe changes."""
    common = set.intersection(*({*one.items()} for one in others)) if len(others) > 1 else set()
    return {name: value for name, value in others[0].items() if (name, value) in common}


def _listed(scores: Mapping[str, float], without: Collection[str] = ()) -> str:
    shown = {name: value for name, value in scores.items() if name not in without}
    return " · ".join(f"{_words(name)} {quality_text(value)}" for name, value in shown.items())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a recipe another model: how it reads the data, is built and trained."""
    return {**settings.get("data", {}), **settings["model"], **settings["train"]}


def _common_metric(members: Sequence[Trained]) -> str:
    """Return the first metric variants were chosen by that every teacher has; its own where they share none."""
    wanted = [str(chosen_row(one.selection)["metric"]) for one in members]
    return next((name for name in wanted if all(name in _quality(one)["dev"] for one in members)), wanted[0])


def _quality(trained: Trained) -> dict[str, dict[str, float]]:
    """Return the teacher's scores by split: those of its own, and those under its variants' options."""
    under = trained.selection["teacher_quality"] or {}
    return {split: {**scores, **under.get(split, {})} for split, scores in trained.model["quality"].items()}


def _row(trained: Trained, differing: Mapping[str, Any], metric: str) -> dict[str, Any]:
    chosen, quality = chosen_row(trained.selection), _quality(trained)
    own = chosen["metric"]
    if metric not in quality["dev"]:
        metric = own
    others = {name: value for name, value in quality["test"].items() if name not in (metric, WORK)}
    return {
        "recipe": trained.recipe,
        "differing": ", ".join(f"{name} {_text(value)}" for name, value in differing.items()),
        "parameters": trained.model["parameters"],
        "work": quality["dev"].get(WORK),
        "dev": quality["dev"][metric],
        "test": quality["test"].get(metric),
        "others": others,
        "chosen": chosen["variant"],
        "chosen_metric": "" if own == metric else _words(own),
        "chosen_test": chosen["quality"].get("test", {}).get(own),
        "page": trained.has_page,
        "size_bytes": chosen["size_bytes"],
        "p50": p50_of(chosen),
    }


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _shares(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the bars' widths in per cent of the longest."""
    longest = {key: max((other[key] or 0) for other in rows) for key in ("parameters", "work", "size_bytes", "p50")}
    return {f"{key}_share": round(100 * (row[key] or 0) / most, 1) if most else 0.0 for key, most in longest.items()}
