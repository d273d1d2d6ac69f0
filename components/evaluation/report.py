"""The report of a recipe: one self-contained page that works offline, and its frontier plot as a file of its own.

The same inputs give the same bytes: no timestamps, no absolute paths.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.files import write_bytes, write_text
from components.core.params import LIMITS, Budget
from components.evaluation.charts.curves import STYLE as CURVES_STYLE
from components.evaluation.charts.curves import curve_charts
from components.evaluation.charts.frontier import STYLE as FRONTIER_STYLE
from components.evaluation.charts.frontier import frontier_chart, short_names, standalone
from components.evaluation.pictures import Picture
from components.evaluation.selection import (
    chosen_row,
    floor_text,
    megabytes_text,
    p50_of,
    quality_of,
    quality_text,
    share_text,
    shortfalls,
)

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.html.j2"
Row = Mapping[str, Any]


def write_report(
    recipe: str,
    selection: Row,
    curves: Mapping[str, Sequence[Row]],
    examples: Sequence[Row],
    lineage: Row,
    out: Path,
    pictures: Sequence[Picture] = (),
) -> None:
    """Write `out/index.html`, `out/frontier.svg` and the pictures' own files.

    selection: the content of metrics/<recipe>/selection.json.
    curves: rows by step (`step`, then any numeric columns) for each model.
    examples: {"source", "reference", "outputs": {variant: answer}} each.
    lineage: nested names and values: where it all came from.
    pictures: what this task shows beside (components/evaluation/pictures).
    """
    write_text(out / "frontier.svg", standalone(frontier_chart(selection, 920, 460)))
    for name, content in (item for shown in pictures for item in shown.files.items()):
        write_bytes(out / name, content)
    write_text(out / "index.html", _page(recipe, selection, curves, examples, lineage, pictures))


def _page(
    recipe: str, selection: Row, curves: Any, examples: Sequence[Row], lineage: Row, pictures: Sequence[Picture]
) -> str:
    from markupsafe import Markup

    chosen = chosen_row(selection)
    template = page_environment().get_template(TEMPLATE)
    return template.render(
        recipe=recipe,
        selection=selection,
        chosen=chosen,
        cards=_cards(selection, chosen, _baseline(selection)),
        frontier_wide=Markup(frontier_chart(selection, 920, 460)),
        frontier_narrow=Markup(frontier_chart(selection, 400, 460)),
        style=Markup(FRONTIER_STYLE + "\n" + CURVES_STYLE),
        rows=_table(selection),
        short=short_names([row["variant"] for row in selection["variants"]]),
        models=[{"name": name, "charts": _marked(curve_charts(rows))} for name, rows in curves.items()],
        **_example_view(examples, selection),
        pictures=[{"title": p.title, "caption": p.caption, "body": Markup(p.body)} for p in pictures],
        several_protocols=_several_protocols(selection, chosen),
        lineage=_groups(lineage),
        hardware=selection["hardware"],
    )


def page_environment() -> Environment:
    """Return what fills this folder's templates: every value escaped, a missing one is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(megabytes=megabytes_text, milliseconds=_milliseconds, language=_language, words=_words)
    environment.filters["quality"] = quality_text
    return environment


def _several_protocols(selection: Row, chosen: Row) -> bool:
    """Return whether the teacher has the metric under several protocols, all named "<metric>_<protocol>"."""
    metric = str(chosen["metric"]).partition("_")[0]
    names: set[str] = {name for values in (selection["teacher_quality"] or {}).values() for name in values}
    return sum(name.partition("_")[0] == metric for name in names) > 1


def _baseline(selection: Row) -> Row | None:
    """Return the uncompressed teacher's row: what the chosen variant is compared with."""
    teachers = [row for row in selection["variants"] if row["parent"] == row["recipe"] and row["precision"] == "fp32"]
    return max(teachers, key=lambda row: row["size_bytes"], default=None)


def _cards(selection: Row, chosen: Row, baseline: Row | None) -> list[dict[str, Any]]:
    """Return the four headline figures: title, value, unit, a comparison and the limit it had to meet."""
    budget, throughput = selection["budget"], chosen["throughput"]
    size, p50, ratio = chosen["size_bytes"] / 1e6, p50_of(chosen), float(chosen["quality_vs_teacher"])
    compared = baseline if baseline is not None and baseline is not chosen else None

    def times(value: float, word: str) -> str:
        return f"{value:.1f}× {word} than the teacher" if compared else ""

    return [
        _card("Quality", quality_text(quality_of(chosen)), f"{chosen['metric']}, dev", share_text(chosen))
        | _meter(ratio, f"at least {floor_text(budget['min_quality'])}", floor=budget["min_quality"]),
        _card(
            "Size", megabytes_text(chosen["size_bytes"]), "MB", times(_ratio(compared, chosen, "size_bytes"), "smaller")
        )
        | _meter(size / budget["max_size_mb"], f"at most {budget['max_size_mb']:g} MB"),
        _card(
            "Latency",
            _milliseconds(p50),
            "ms median, batch 1",
            times(p50_of(compared) / p50 if compared else 0, "faster"),
        )
        | _meter(p50 / budget["max_p50_ms"], f"at most {budget['max_p50_ms']:g} ms"),
        _card(
            "Throughput", f"{throughput['batch_1']:,.0f}", f"{selection['unit']}, batch 1", _batch_throughput(chosen)
        ),
    ]


def _card(title: str, value: str, unit: str, note: str) -> dict[str, Any]:
    return {"title": title, "value": value, "unit": unit, "note": note, "limit": ""}


def _meter(share: float, limit: str, floor: float | None = None) -> dict[str, Any]:
    """Return a bar's width in per cent: the share of a limit that is used up, or a share that has to reach a floor."""
    met = share <= 1 if floor is None else share >= floor
    return {
        "limit": limit,
        "used": round(100 * min(share, 1), 1),
        "met": met,
        "floor": floor and round(100 * min(floor, 1), 1),
    }


def _ratio(compared: Row | None, chosen: Row, key: str) -> float:
    return float(compared[key] / chosen[key]) if compared else 0.0


def _batch_throughput(chosen: Row) -> str:
    others = {batch: value for batch, value in chosen["throughput"].items() if batch != "batch_1"}
    return ", ".join(f"{value:,.0f} at {batch.replace('_', ' ')}" for batch, value in others.items())


def _table(selection: Row) -> list[dict[str, Any]]:
    """Return the variants with what each misses of the budget, best quality first."""
    budget = Budget(**selection["budget"])
    sign = 1 if selection["variants"][0].get("mode") == "min" else -1
    rows = sorted(selection["variants"], key=lambda row: (sign * quality_of(row), row["variant"]))
    largest = max(row["size_bytes"] for row in rows)
    slowest = max(p50_of(row) for row in rows)
    return [
        {
            **row,
            "dev": quality_of(row),
            "test": row["quality"].get("test", {}).get(row["metric"]),
            "p50": p50_of(row),
            "size_share": round(100 * row["size_bytes"] / largest, 1),
            "p50_share": round(100 * p50_of(row) / slowest, 1),
            "missed": dict.fromkeys(LIMITS, "") | {m.limit: m.text for m in shortfalls(dict(row), budget)},
        }
        for row in rows
    ]


def _marked(charts: Sequence[Any]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    return [{"quantity": chart.quantity, "series": chart.series, "svg": Markup(chart.svg)} for chart in charts]


def _example_view(examples: Sequence[Row], selection: Row) -> dict[str, Any]:
    """Return the examples with what each answer has in common with the teacher's and with the reference."""
    names = list(dict.fromkeys(name for example in examples for name in example["outputs"]))
    baseline = _baseline(selection)
    teacher = baseline["variant"] if baseline and baseline["variant"] in names else next(iter(names), None)
    view = []
    for example in examples:
        if isinstance(example["reference"], list):  # a table of numbers: the task's pictures draw it, nobody reads it
            continue
        answers = [_answer(name, example, teacher, selection["selected"]) for name in names]
        view.append({"source": example["source"], "reference": example["reference"], "answers": answers})
    others = [answer for item in view for answer in item["answers"] if answer["chosen"] and not answer["teacher"]]
    return {
        "examples": view,
        "example_columns": names,
        "teacher": teacher,
        "same_as_teacher": sum(answer["same_as_teacher"] for answer in others) if others else None,
        "same_as_reference": sum(a["same_as_reference"] for item in view for a in item["answers"] if a["chosen"]),
    }


def _answer(name: str, example: Row, teacher: str | None, chosen: str) -> dict[str, Any]:
    answer, expected = _text_of(example["outputs"].get(name)), _text_of(example["outputs"].get(teacher))
    text = isinstance(answer, str) and isinstance(expected, str) and not answer.startswith("data:")
    compare = name != teacher and text
    return {
        "variant": name,
        "chosen": name == chosen,
        "teacher": name == teacher,
        "pieces": _differences(answer, expected) if compare else [(answer, True)],
        "same_as_teacher": _gist(answer) == _gist(expected),
        "same_as_reference": _gist(answer) == example["reference"],
    }


def _text_of(answer: Any) -> Any:
    """Return the filled text where an answer has one, else all of it."""
    return answer.get("filled", answer) if isinstance(answer, Mapping) else answer


def _differences(answer: str, expected: str) -> list[tuple[str, bool]]:
    """Return the answer in pieces, each with whether it is part of what was expected."""
    if " " in expected:  # words where there are words, characters where a script has no spaces
        left, right = re.findall(r"\S+\s*", expected), re.findall(r"\S+\s*", answer)
    else:
        left, right = list(expected), list(answer)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    return [("".join(right[b:d]), kind == "equal") for kind, _, _, b, d in matcher.get_opcodes() if d > b]


def _groups(lineage: Row) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Return nested lineage as titled groups of names and values, single values first under no title."""
    known = {name: value for name, value in lineage.items() if value is not None}
    single = [(name, value) for name, value in known.items() if not isinstance(value, Mapping)]
    nested = [
        (name, [(inner, fact) for inner, fact in value.items() if fact is not None])
        for name, value in known.items()
        if isinstance(value, Mapping)
    ]
    return [("", single), *nested] if single else nested


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _gist(answer: Any) -> Any:
    """Return what of an answer can be right or wrong: the label where it has one, else all of it."""
    return answer.get("label", answer) if isinstance(answer, Mapping) else answer


def _words(value: Any) -> str:
    """Return any value as text, a picture or a sound: mappings and lists on one line, a label with its probability."""
    from markupsafe import Markup

    if isinstance(value, str) and value.startswith("data:image/"):
        return Markup('<img class="example" src="{}" alt="">').format(value)
    if isinstance(value, str) and value.startswith("data:audio/"):
        return Markup('<audio controls preload="none" src="{}"></audio>').format(value)
    if isinstance(value, Mapping) and value.get("label") in value.get("probabilities", ()):
        return f"{value['label']} {value['probabilities'][value['label']]:.0%}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(inner) for inner in value)
    return str(value)


def _language(value: Any) -> str:
    """Return the HTML language of a text, so that browsers draw Han characters in their Japanese forms beside kana."""
    return "ja" if isinstance(value, str) and re.search(r"[\u3040-\u30ff]", value) else ""
