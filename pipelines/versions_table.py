"""The registered versions of a recipe as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def versions_table(recipe: str, versions: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a version: its figures, and the times it was live."""
    table = Table(box=None, pad_edge=False, title=recipe, title_justify="left")
    for title in ("version", "variant", "quality", "of teacher", "MB", "p50 ms", "budget", "live (UTC)"):
        table.add_column(title, header_style="bold")
    for version in versions:
        live = "\n".join(f"{period['from']} to {period['to'] or 'now'}" for period in version["live"])
        cells = (
            f"{version['version']}{' champion' if version['champion'] else ''}",
            str(version["variant"]),
            f"{version['quality']:.4g}" if "quality" in version else "",
            f"{version['quality_vs_teacher']:.1%}" if "quality_vs_teacher" in version else "",
            f"{version['size_bytes'] / 1e6:.2f}",
            f"{version['p50_ms']:.2f}" if "p50_ms" in version else "",
            "met" if version["budget_met"] else "missed",
            live,
        )
        table.add_row(*cells, style="bold green" if version["champion"] else None)
    return table
