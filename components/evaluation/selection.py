"""Chooses the best variant within a recipe's budget, or says which limit no variant meets and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.core.errors import ModelpressError
from components.core.params import LIMITS, Budget

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]

# Qualities this close (relative) are a tie: a dev set of 500 sentences can't tell them apart, a stopwatch can.
TIE = 0.005
NO_GAIN = {"either": "neither smaller nor faster than", "smaller": "not smaller than", "faster": "not faster than"}


@dataclass(frozen=True)
class Shortfall:
    """A limit a variant misses: `text` says by how much, `relative` is the miss as a share of the limit."""

    limit: str
    text: str
    relative: float


def select(recipe: str, budget: Budget, variants: Sequence[Row], latency: Row) -> dict[str, Any]:
    """Return the content of metrics/<recipe>/selection.json: all variants' rows, the chosen one and why.

    variants: the contents of metrics/<recipe>/variants/*.json; latency: that of metrics/<recipe>/latency.json.

    Raises:
        ModelpressError: no variant meets the budget, or one was not measured.
    """
    rows = [measured_row(variant, latency) for variant in variants]
    chosen = best(rows, budget)
    if chosen is None:
        raise ModelpressError(_nobody_meets(recipe, budget, rows))
    reason = _reason(chosen, rows, budget)
    return selection_of(recipe, budget, variants, latency, chosen["variant"], reason, met=True)


def chosen_row(selection: Row) -> dict[str, Any]:
    """Return the selected variant's row of the content of a selection.json."""
    return next(dict(row) for row in selection["variants"] if row["variant"] == selection["selected"])


def selection_of(
    recipe: str, budget: Budget, variants: Sequence[Row], latency: Row, chosen: str, reason: str, met: bool
) -> dict[str, Any]:
    """Return the content of selection.json for a choice; met: whether the chosen variant is within the budget."""
    rows = [measured_row(variant, latency) for variant in variants]
    frontier = {row["variant"] for row in pareto_frontier(rows)}
    return {
        "recipe": recipe,
        "selected": chosen,
        "reason": reason,
        "met": met,
        "budget": budget.model_dump(),
        "hardware": latency["hardware"],
        "threads": latency["threads"],
        "unit": latency["variants"][chosen]["unit"],
        "teacher_quality": _merged(variant.get("teacher_quality", {}) for variant in variants),
        "variants": [{**row, "on_frontier": row["variant"] in frontier} for row in rows],
    }


def _merged(scores: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Return the teacher's scores of all variants: each has those of its own way of answering."""
    merged: dict[str, dict[str, float]] = {}
    for splits in scores:
        for split, values in splits.items():
            merged.setdefault(split, {}).update(values)
    return merged


def measured_row(variant: Row, latency: Row) -> Row:
    """Return a variant's figures with its timings.

    Raises:
        ModelpressError: it was not measured.
    """
    name = variant["variant"]
    if name not in latency["variants"]:
        raise ModelpressError(
            f"variants.{name}: not in latency.json; run `modelpress run {variant['recipe']}` to measure it"
        )
    kept = ("recipe", "parent", "precision", "quality", "quality_vs_teacher", "metric", "size_bytes", "parameters")
    timing = latency["variants"][name]
    return {
        "variant": name,
        **{key: variant[key] for key in kept},
        "mode": variant.get("mode", "max"),
        "signature": variant.get("signature", ""),
        "deflated_bytes": variant.get("deflated_bytes"),
        "multiply_adds_m": variant.get("multiply_adds_m"),
        "latency_ms": timing["latency_ms"],
        "throughput": timing["throughput"],
        "parity": variant["parity"],
        "runtime": variant["runtime"],
        "hardware": latency["hardware"].get("cpu", ""),
    }


def quality_of(row: Row) -> float:
    """Return the row's dev metric: what variants are chosen by."""
    return float(row["quality"]["dev"][row["metric"]])


def quality_text(value: float) -> str:
    """Return a quality as it is shown: two decimals of a score out of 100, four of a share of 1."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


def share_text(row: Row) -> str:
    """Return how good a row's quality is beside the teacher's, in words that hold for an error too."""
    return f"{row['quality_vs_teacher']:.1%} {'as good as' if row.get('mode') == 'min' else 'of'} the teacher's"


def megabytes_text(size: float) -> str:
    """Return bytes as megabytes (10^6), three digits of them, two where that would be hardly any."""
    if size < 5e4:
        return f"{size / 1e6:.2g}"
    return f"{size / 1e6:.2f}" if size < 1e7 else f"{size / 1e6:.1f}"


def p50_of(row: Row) -> float:
    """Return the row's median latency at batch 1 in milliseconds."""
    return float(row["latency_ms"]["batch_1"]["p50"])


def shortfalls(row: Row, budget: Budget) -> list[Shortfall]:
    """Return the limits of the budget that a row misses (none: the variant is within the budget)."""
    size, p50, ratio = row["size_bytes"] / 1e6, p50_of(row), float(row["quality_vs_teacher"])
    missed = []
    if size > budget.max_size_mb:
        text = f"{size:.2f} MB is {size - budget.max_size_mb:.2f} MB over max_size_mb {budget.max_size_mb:g}"
        missed.append(Shortfall("max_size_mb", text, size / budget.max_size_mb - 1))
    if p50 > budget.max_p50_ms:
        text = f"{p50:.2f} ms is {p50 - budget.max_p50_ms:.2f} ms over max_p50_ms {budget.max_p50_ms:g}"
        missed.append(Shortfall("max_p50_ms", text, p50 / budget.max_p50_ms - 1))
    if ratio < budget.min_quality:
        text = (
            f"{ratio:.2%} of the teacher's quality is {100 * (budget.min_quality - ratio):.2f} points "
            f"under min_quality {floor_text(budget.min_quality)}"
        )
        missed.append(Shortfall("min_quality", text, 1 - ratio / budget.min_quality))
    return missed


def pareto_frontier(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other row beats: at least as good in quality, p50 and size, and better in one."""
    return [row for row in rows if not any(_dominates(other, row) for other in rows)]


def _dominates(one: Row, other: Row) -> bool:
    costs = [(_signed_quality(row) * -1, p50_of(row), row["size_bytes"]) for row in (one, other)]
    return costs[0] != costs[1] and all(a <= b for a, b in zip(*costs, strict=True))


def _signed_quality(row: Row) -> float:
    return quality_of(row) if row.get("mode", "max") == "max" else -quality_of(row)


def _ties(rows: Sequence[Row]) -> list[Row]:
    top = max(_signed_quality(row) for row in rows)
    return [row for row in rows if _signed_quality(row) >= top - TIE * abs(top)]


def best(rows: Sequence[Row], budget: Budget) -> Row | None:
    """Return the fastest of the rows within the budget that tie for the best quality, or None where there is none.

    A variant that gains nothing is no rival.
    """
    rivals = gaining(rows, budget)
    return min(_ties(rivals), key=lambda row: (p50_of(row), row["size_bytes"], row["variant"])) if rivals else None


def gaining(rows: Sequence[Row], budget: Budget) -> list[Row]:
    """Return the rows within the budget's limits that gain, as it asks, on what they were made from.

    A variant is made from the float form of its model, and where that is not among the rows from the teacher's, as is a
    student's float form, unless it is better; each answering in the same way. Where neither is among the rows there is
    nothing to gain on. Faster is: beyond both confidence intervals.
    """
    floats = {(row["parent"], row["metric"], row["runtime"]): row for row in rows if row["precision"] == "fp32"}

    def gains(row: Row) -> bool:
        is_float = row["precision"] == "fp32"
        own, teacher = ((row[key], row["metric"], row["runtime"]) for key in ("parent", "recipe"))
        before = floats.get(teacher, row) if is_float else floats.get(own, floats.get(teacher, row))
        if before is row or (is_float and row["parent"] == row["recipe"]):
            return True
        if is_float and _signed_quality(row) > _signed_quality(before) + TIE * abs(_signed_quality(before)):
            return True
        smaller = row["size_bytes"] < before["size_bytes"]
        faster = row["latency_ms"]["batch_1"]["high"] < before["latency_ms"]["batch_1"]["low"]
        return bool({"smaller": smaller, "faster": faster, "either": smaller or faster}[budget.gain])

    return [row for row in rows if not shortfalls(row, budget) and gains(row)]


def _reason(chosen: Row, rows: Sequence[Row], budget: Budget) -> str:
    rivals = gaining(rows, budget)
    left_out = _left_out(rows, budget)
    gain = f" Left out, {NO_GAIN[budget.gain]} what they were made from: {', '.join(left_out)}." if left_out else ""
    return _choice(chosen, rivals, rows, budget) + gain


def _left_out(rows: Sequence[Row], budget: Budget) -> list[str]:
    """Return the names of variants within the limits that gain nothing."""
    rivals = gaining(rows, budget)
    return [row["variant"] for row in rows if not shortfalls(row, budget) and row not in rivals]


def _choice(chosen: Row, within: Sequence[Row], rows: Sequence[Row], budget: Budget) -> str:
    quality = quality_text(quality_of(chosen))
    result = f"{chosen['metric']} {quality} on dev, {share_text(chosen)}"
    limits = f"within the budget ({budget_in_words(budget)})"
    rivals = [row for row in _ties(within) if row is not chosen]
    if len(within) == 1:
        only = f"The only one of {len(rows)} variants" if len(rows) > 1 else "The only variant is"
        return f"{only} {limits}: {result}."
    if not rivals:
        return f"Best quality of the {len(within)} variants (of {len(rows)}) {limits}: {result}."
    rival = max(rivals, key=_signed_quality)
    return (
        f"Fastest of the {len(rivals) + 1} variants {limits} within {TIE:.1%} of the best quality: {result}, "
        f"at {p50_of(chosen):.2f} ms; {rival['variant']} reaches {quality_text(quality_of(rival))} "
        f"at {p50_of(rival):.2f} ms."
    )


def budget_in_words(budget: Budget) -> str:
    """Return the limits as one phrase."""
    return (
        f"at most {budget.max_size_mb:g} MB and {budget.max_p50_ms:g} ms at batch 1, "
        f"at least {floor_text(budget.min_quality)} of the teacher's quality"
    )


def floor_text(min_quality: float) -> str:
    """Return a budget's share of the teacher's quality in per cent, with the digits it has."""
    return f"{100 * min_quality:g}%"


def nearest_miss(rows: Sequence[Row], budget: Budget) -> Row:
    """Return the row whose misses, each as a share of its limit, are least together."""
    return min(rows, key=lambda row: (sum(miss.relative for miss in shortfalls(row, budget)), row["variant"]))


def _nobody_meets(recipe: str, budget: Budget, rows: Sequence[Row]) -> str:
    if left_out := _left_out(rows, budget):
        return (
            f"recipes.{recipe}.budget: what is within its limits, {', '.join(left_out)}, is {NO_GAIN[budget.gain]} "
            f"what it was made from (gain: {budget.gain}); add a better variant"
        )
    missed = {row["variant"]: shortfalls(row, budget) for row in rows}
    nearest = nearest_miss(rows, budget)["variant"]
    problems = [f"nearest is {nearest}: {', '.join(miss.text for miss in missed[nearest])}"]
    for limit in LIMITS:
        misses = {name: miss for name, found in missed.items() for miss in found if miss.limit == limit}
        if len(misses) < len(rows):
            problems.append(f"{limit}: met by {', '.join(name for name in missed if name not in misses)}")
        else:
            closest = min(misses, key=lambda name: (misses[name].relative, name))
            problems.append(f"{limit}: met by none, closest is {closest}, {misses[closest].text}")
    return (
        f"recipes.{recipe}.budget: no variant meets all its limits; {'; '.join(problems)}; "
        "relax a limit in params.yaml or add a better variant"
    )


def print_table(selection: Row, console: Console) -> None:
    """Print the variants of a selection and the reason of the choice; fits 100 columns, and 80 with fewer figures."""
    console.print(variants_table(selection, all_figures=console.width >= 96))
    console.print(f"[bold green]➜ {selection['selected']}[/]  {selection['reason']}", highlight=False)


def variants_table(selection: Row, all_figures: bool = True) -> Table:
    """Return the variants as a table of the terminal; its title names the quality's protocol."""
    from rich import box
    from rich.table import Table

    metrics = sorted({row["metric"] for row in selection["variants"]})
    title = f"{selection['recipe']} · quality = {' / '.join(metrics)}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)  # 80 columns are enough
    table.add_column("variant", overflow="fold", min_width=22)  # the only column that may wrap
    left_out = () if all_figures else ("test", "max diff", "agree")
    headings = [heading for heading in _cells(selection["variants"][0], selection["unit"]) if heading not in left_out]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in selection["variants"]:
        chosen, cells = row["variant"] == selection["selected"], _cells(row, selection["unit"])
        name = f"➜ {row['variant']}" if chosen else f"  {row['variant']}"
        table.add_row(name, *(cells[heading] for heading in headings), style="bold green" if chosen else None)
    return table


def _cells(row: Row, unit: str) -> dict[str, str]:
    """Return a variant's figures as text, by heading."""
    parity = row["parity"]
    test = row["quality"].get("test", {}).get(row["metric"])
    difference, agreement = parity.get("max_abs_diff"), parity.get("agreement")
    return {
        "dev": quality_text(quality_of(row)),
        "test": "–" if test is None else quality_text(test),
        "of teacher": f"{row['quality_vs_teacher']:.1%}",
        "MB": megabytes_text(row["size_bytes"]),
        "p50 ms": f"{p50_of(row):.2f}",
        unit: f"{row['throughput']['batch_1']:,.0f}",
        "max diff": "–" if difference is None else f"{difference:.2g}",
        "agree": "–" if agreement is None else f"{agreement:.1%}",
    }
