"""`modelpress status`: which stages are fresh, which are stale and why, and the figures of the last run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.core.files import read_json
from pipelines.dag import read_plan, why_stale

MAX_REASONS = 3


def show_status(root: Path, recipes: Sequence[str], targets: Sequence[str], console: Console) -> None:
    """Print the stages' table and each recipe's variants."""
    plan = read_plan(root, targets, check=False)
    reasons = why_stale(root, targets)
    table = Table(box=None, pad_edge=False)
    for title in ("stage", "state", "why"):
        table.add_column(title, header_style="bold", overflow="fold")
    stale: set[str] = set()
    for name, stage in plan.items():
        why = _in_words(reasons[name])
        upstream = [other for other in stage.depends_on if other in stale]
        if upstream and not why:
            why = f"after {', '.join(upstream[:MAX_REASONS])}"
        if why:
            stale.add(name)
        table.add_row(escape(name), "[yellow]stale[/]" if why else "[green]fresh[/]", escape(why))
    console.print(table)
    console.print(f"{len(plan) - len(stale)} of {len(plan)} stages fresh", highlight=False)
    _show_figures(root, recipes, console)


def _in_words(reasons: Sequence[str]) -> str:
    more = len(reasons) - MAX_REASONS
    return ", ".join(reasons[:MAX_REASONS]) + (f" and {more} more" if more > 0 else "")


def _show_figures(root: Path, recipes: Sequence[str], console: Console) -> None:
    from components.evaluation.selection import print_table

    for recipe in recipes:
        path = root / "metrics" / recipe / "selection.json"
        if path.is_file():
            print_table(read_json(path), console)
