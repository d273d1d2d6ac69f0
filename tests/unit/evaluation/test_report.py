from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.params import Budget
from components.evaluation.charts.axes import CHARACTER, Scale
from components.evaluation.charts.curves import curve_charts
from components.evaluation.charts.frontier import frontier_chart, short_names
from components.evaluation.pictures import Picture
from components.evaluation.report import write_report
from components.evaluation.selection import select
from tests.unit.evaluation.made_up import latency, variant

NAMES = ["toy-teacher-fp32", "toy-teacher-int8", "toy-student-int8"]
EXAMPLES = [
    {"source": "A <b>cat</b> .", "reference": "猫です。", "outputs": {NAMES[0]: "猫です。", NAMES[2]: "犬です。"}},
    {"source": "Yes .", "reference": "はい。", "outputs": {NAMES[0]: "はい。", NAMES[2]: "はい。"}},
]
CURVES = {
    "toy": [
        {"step": str(s), "epoch": "0", "train_loss": str(9 / s), "dev_loss": "" if s % 5 else "1.5"}
        for s in range(1, 40)
    ]
}


def selection(**changes) -> dict:
    variants = [
        variant(NAMES[0], 38.0, 29.4),
        variant(NAMES[1], 37.9, 8.1, precision="int8"),
        variant(NAMES[2], 37.0, 3.3, precision="int8", parent="toy-student", multiply_adds_m=98.765),
    ]
    timings = latency(dict(zip(NAMES, (17.0, 8.0, 3.4), strict=True)))
    return select("toy", Budget(max_size_mb=5, max_p50_ms=40, min_quality=0.95), variants, timings) | changes


def write(out: Path, **changes) -> str:
    arguments = {
        "selection": selection(),
        "curves": CURVES,
        "examples": EXAMPLES,
        "lineage": {"data": {"sha256": "ab"}},
    }
    write_report(recipe="toy", out=out, **{**arguments, **changes})
    return (out / "index.html").read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Collects the texts, and everything a page could load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.texts, self.tags = [], [], []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data) -> None:
        self.texts.append(data.strip())


def test_page_is_whole_in_itself_and_shows_every_part(tmp_path: Path) -> None:
    page = write(tmp_path)
    checker = Checker()
    checker.feed(page)
    assert checker.loads == []
    assert not re.search(r"url\(|@import|<script|https?://(?!www\.w3\.org/)", page)
    text = " ".join(checker.texts)
    for part in [
        *NAMES,
        "bleu_beam4",
        "bleu_greedy",
        "37.00",
        "3.30",
        "8.9× smaller",
        "nrefs:1|tok:none",
        "1 M parameters · 98.77 M multiply-adds",
        "Toy CPU",
        "猫です。",
        "train loss",
        "ab",
    ]:
        assert part in text
    assert text.count("M multiply-adds") == 1  # the others' task does not count them
    assert "1 of 2 answers of the chosen variant are exactly the teacher's" in re.sub(r"\s+", " ", text)


def test_page_and_plot_are_the_same_bytes_when_written_twice(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b" / "c")
    for name in ("index.html", "frontier.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / "c" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "index.html").read_text()


def test_markup_in_the_data_is_shown_not_obeyed(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert "A &lt;b&gt;cat&lt;/b&gt; ." in page
    assert "<b>cat</b>" not in page


def test_only_what_differs_from_the_teacher_is_marked(tmp_path: Path) -> None:
    assert re.findall(r"<mark>(.*?)</mark>", write(tmp_path)) == ["犬"]


def test_page_is_written_when_optional_parts_are_missing(tmp_path: Path) -> None:
    page = write(tmp_path, selection=selection(teacher_quality={}), curves={}, examples=[], lineage={})
    assert "Side by side" not in page
    assert "protocol by protocol" not in page


def test_baselines_beside_the_metric_are_not_called_protocols(tmp_path: Path) -> None:
    assert "protocol by protocol" in write(tmp_path / "bleu")
    for row in (mse := selection())["variants"]:
        row["metric"], row["quality"] = "mse", {"dev": {"mse": 0.4}, "test": {"mse": 0.4}}
    page = write(tmp_path / "mse", selection={**mse, "teacher_quality": {"dev": {"mse": 0.3, "persistence_mse": 0.9}}})
    assert "The teacher&#39;s figures" in page
    assert "protocol" not in page


def test_files_of_pictures_stand_beside_the_page(tmp_path: Path) -> None:
    write(tmp_path, pictures=[Picture("Sounds", "said", "<p>x</p>", {"no.wav": b"RIFF"})])
    assert (tmp_path / "no.wav").read_bytes() == b"RIFF"


def test_page_is_written_when_answers_are_not_text(tmp_path: Path) -> None:
    examples = [{"source": [1, 2], "reference": 3, "outputs": {NAMES[0]: 3, NAMES[2]: {"label": 4}}}]
    assert "label 4" in write(tmp_path, examples=examples)


def test_frontier_file_is_valid_svg_that_names_the_variants(tmp_path: Path) -> None:
    write(tmp_path)
    root = ET.parse(tmp_path / "frontier.svg").getroot()
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"teacher-fp32", "student-int8", "29.4 MB"} <= texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3


def label_boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of the variants' names, at the mean width of a character."""
    boxes = []
    for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if (element.get("class") or "").startswith("label"):
            x, y, width = float(element.get("x")), float(element.get("y")), 6.5 * len(element.text)
            left = x - {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
            boxes.append((left, y - 10, left + width, y + 14))
    return boxes


@pytest.mark.parametrize("width", [920, 400])
@pytest.mark.parametrize("p50s", [(17.0, 8.0, 3.4), (3.4, 3.4, 3.4), (3.5, 3.4, 3.3)])
def test_labels_of_the_frontier_plot_stand_apart_and_inside(width: int, p50s) -> None:
    variants = [variant(name, 37.0 + index / 50, 3 + index / 10) for index, name in enumerate(NAMES)]
    budget = Budget(max_size_mb=50, max_p50_ms=40, min_quality=0.5)
    chart = frontier_chart(select("toy", budget, variants, latency(dict(zip(NAMES, p50s, strict=True)))), width, 460)
    boxes = label_boxes(chart)
    assert len(boxes) == 3
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert right <= width
        for other in boxes[index + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


@pytest.mark.parametrize(("mode", "arrow", "inside"), [("max", "↑", ["a"]), ("min", "↓", ["b"])])
def test_budgets_region_of_the_frontier_plot_lies_on_the_good_side_of_the_metric(mode, arrow, inside) -> None:
    variants = [variant("a", 40.0, 3, mode=mode), variant("b", 36.0, 3, mode=mode)]
    shares = {"max": (40 / 38, 36 / 38), "min": (38 / 40, 38 / 36)}[mode]
    rows = [{**row, "quality_vs_teacher": share} for row, share in zip(variants, shares, strict=True)]
    budget = Budget(max_size_mb=50, max_p50_ms=40, min_quality=0.98)
    svg = ET.fromstring(frontier_chart(select("toy", budget, rows, latency({"a": 3.0, "b": 4.0})), 920, 460))
    space = "{http://www.w3.org/2000/svg}"
    (region,) = (element for element in svg.iter(f"{space}rect") if element.get("class") == "budget")
    top = float(region.get("y"))
    bottom = top + float(region.get("height"))
    heights = {
        group.find(f"{space}title").text.split(":")[0].split(" ")[0]: float(group.find(f"{space}circle").get("cy"))
        for group in svg.iter(f"{space}g")
    }
    assert [name for name, y in heights.items() if top <= y <= bottom] == inside
    assert f"{arrow} bleu_beam4, dev" in [element.text for element in svg.iter(f"{space}text")]


def test_tables_of_numbers_are_left_to_the_tasks_pictures(tmp_path: Path) -> None:
    table = [[0.123456, 1.0]] * 96
    examples = [{"source": table, "reference": table, "outputs": {NAMES[0]: table, NAMES[2]: table}}]
    html = write(tmp_path, examples=examples)
    assert "0.123456" not in html
    assert "Side by side" not in html


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5), st.booleans())
@settings(max_examples=200)
def test_ticks_are_few_and_inside_the_scale(low: float, span: float, logarithmic: bool) -> None:
    low = abs(low) + 0.01 if logarithmic else low
    ticks = Scale(low, low + span, 0, 100, logarithmic).ticks()
    room = 1e-6 * (abs(low) + span)
    assert all(low - room <= tick <= low + span + room for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 30


@pytest.mark.parametrize(
    ("names", "short"),
    [(["a-b-c", "a-b-d"], ["c", "d"]), (["a-b", "a"], ["a-b", "a"]), (["x"], ["x"]), (["a-1", "b-1"], ["a-1", "b-1"])],
)
def test_short_names_drop_only_what_all_share(names, short) -> None:
    assert list(short_names(names).values()) == short


def test_curves_of_one_quantity_share_a_chart_and_empty_cells_are_left_out() -> None:
    rows = [
        {"step": i, "epoch": 0, "train_loss": 3.0 / (i + 1), "dev_loss": "" if i % 10 else 2.0, "learning_rate": 0.1}
        for i in range(1000)
    ]
    loss, rate = curve_charts(rows)
    assert [series.name for series in loss.series] == ["train loss", "dev loss"]
    assert len(loss.series[0].points) <= 250
    assert len(loss.series[1].points) == 100
    assert rate.quantity == "learning rate"


def test_curve_that_diverged_or_never_moved_is_still_drawn() -> None:
    rows = [
        {"step": 0, "a_loss": "nan", "b": 1.0},
        {"step": 1, "a_loss": "2.0", "b": 1.0},
        {"step": 2, "a_loss": 1.0, "b": 1.0},
    ]
    for chart in curve_charts(rows):
        assert "nan" not in chart.svg
        ET.fromstring(chart.svg)


def test_a_tick_of_many_digits_stands_within_its_curve() -> None:
    (chart,) = curve_charts([{"step": step, "accuracy": 0.7225 + 0.002 * step} for step in range(4)])
    ticks = re.findall(r'x="([\d.]+)" y="[\d.]+" class="tick" text-anchor="end">([\d.]+)<', chart.svg)
    assert max(len(tick) for _, tick in ticks) >= 5
    assert all(float(x) >= CHARACTER * len(tick) for x, tick in ticks)


def test_filled_texts_are_compared_word_by_word_and_with_the_reference(tmp_path: Path) -> None:
    def answer(text: str) -> dict:
        return {"filled": text, "blanks": [{"ship": 0.5}], "asked": [None]}

    outputs = {NAMES[0]: answer("the old ship"), NAMES[2]: answer("the new ship")}
    page = write(tmp_path, examples=[{"source": "the [old] ship", "reference": "the old ship", "outputs": outputs}])
    assert "the old ship" in page
    assert re.search(r"the <mark>new </mark>ship", page)
    assert "blanks" not in page
