from __future__ import annotations

import re
from pathlib import Path

from components.core.params import Budget
from components.evaluation.recipe_comparison import Trained, differences, write_comparison
from components.evaluation.selection import select
from tests.unit.evaluation.made_up import latency, variant


def trained(recipe: str, quality: float, model: dict, dataset: str = "pairs", mode: str = "max", **scores) -> Trained:
    name = f"{recipe}-fp32"
    row = variant(name, quality, 1.0, teacher=quality, mode=mode)
    selection = select(recipe, Budget(max_size_mb=5, max_p50_ms=40, min_quality=0.9), [row], latency({name: 2.0}))
    facts = {"parameters": 1000, "quality": {split: {"bleu_beam4": quality, **scores} for split in ("dev", "test")}}
    settings = {"task": "translation", "dataset": dataset, "model": model, "train": {"epochs": 3, "seed": 1}}
    return Trained(recipe, settings, facts, selection)


def test_teachers_are_compared_by_a_metric_they_share_and_variants_named_by_theirs(tmp_path: Path) -> None:
    beam, greedy = trained("beam", 30.0, {}), trained("greedy", 33.0, {})
    facts = {"parameters": 10, "quality": {s: {"bleu_beam4": 35.0, "bleu_greedy": 33.0} for s in ("dev", "test")}}
    chosen = {**greedy.selection["variants"][0], "metric": "bleu_greedy", "quality": {"dev": {"bleu_greedy": 33.0}}}
    selection = {**greedy.selection, "variants": [chosen], "teacher_quality": facts["quality"]}
    page = page_of([beam, Trained("greedy", greedy.settings, facts, selection)], tmp_path)
    assert links(page) == ["greedy", "beam"]  # 35 of beam 4 before 30
    assert "translation: bleu beam4<" in page
    assert "<td>35.00</td>" in page
    assert "<small>bleu greedy</small>" in page


def test_a_teacher_scored_under_its_variants_options_alone_keeps_its_own_figure(tmp_path: Path) -> None:
    one = trained("a", 38.0, {})
    facts = {"parameters": 10, "quality": {"dev": {"bleu_greedy": 20.0}, "test": {"bleu_greedy": 20.0}}}
    selection = {**one.selection, "teacher_quality": {"dev": {"bleu_beam4": 40.0}, "test": {"bleu_beam4": 39.0}}}
    assert "<td>40.00</td>" in page_of([Trained("a", one.settings, facts, selection)], tmp_path)


def test_no_link_leads_to_a_page_that_is_not_there(tmp_path: Path) -> None:
    one = trained("a", 38.0, {})
    assert links(page_of([Trained("a", one.settings, one.model, one.selection, has_page=False)], tmp_path)) == []


def page_of(members: list[Trained], tmp_path: Path) -> str:
    write_comparison(members, tmp_path / "index.html")
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def links(page: str) -> list[str]:
    return re.findall(r'href="([\w-]+)/index.html"', page)


def test_only_what_differs_is_told() -> None:
    found = differences([{"cell": "gru", "width": 8}, {"cell": "lstm", "width": 8, "augment": {"noise": 0.1}}])
    assert found == [{"cell": "gru"}, {"cell": "lstm", "augment.noise": 0.1}]
    assert differences([{"cell": "gru"}]) == [{}]


def test_recipes_of_one_dataset_share_a_table_the_best_first(tmp_path: Path) -> None:
    page = page_of(
        [
            trained("worse", 30.0, {"architecture": "rnn"}),
            trained("elsewhere", 50.0, {"architecture": "rnn"}, dataset="other"),
            trained("better", 35.0, {"architecture": "transformer"}),
        ],
        tmp_path,
    )
    assert links(page) == ["elsewhere", "better", "worse"]
    assert page.count("<table>") == 2
    assert "architecture transformer" in page
    assert "architecture rnn</small></td>" in page  # of the two that differ; the lone one has nothing to differ from
    assert page.count("architecture rnn") == 1


def test_of_errors_the_smallest_is_best(tmp_path: Path) -> None:
    members = [trained("large", 2.0, {}, mode="min"), trained("small", 1.0, {}, mode="min")]
    assert links(page_of(members, tmp_path)) == ["small", "large"]


def test_work_has_a_column_and_baselines_are_told_once(tmp_path: Path) -> None:
    members = [
        trained(name, 30.0, {}, multiply_adds_m=work, baseline=12.5) for name, work in (("a", 10.0), ("b", 40.0))
    ]
    page = page_of(members, tmp_path)
    assert "Multiply-adds, M" in page
    assert "width: 25.0%" in page
    assert page.count("baseline 12.50") == 1
    assert "Multiply-adds" not in page_of([trained("a", 30.0, {})], tmp_path)
