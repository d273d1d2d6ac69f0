from __future__ import annotations

import yaml

from components.core.bundle import Manifest
from components.core.params import Budget, Recipe
from components.evaluation.model_card import model_card
from tests.unit.evaluation.made_up import variant

RECIPE = Recipe(
    data={},
    task="translation",
    dataset="toy-data",
    model={},
    train={},
    budget=Budget(max_size_mb=5, max_p50_ms=40, min_quality=0.95),
)
ABOUT = {
    "license": "cc-by-2.0",
    "languages": ["en", "ja"],
    "credit": "By Tatoeba.",
    "limits": ["Short sentences."],
    "example": "Hi.",
}


def card(figures: dict | None = None, quantization: dict | None = None, **lineage) -> str:
    parity = {"max_abs_diff": 2e-6, "agreement": 0.998, "grid": [[1, 4], [2, 4]], "tolerance": {"agreement": 0.5}}
    manifest = Manifest(
        "translation",
        "toy",
        "toy-int8",
        "toy-student",
        "int8",
        "cpu",
        "translation",
        {"beam": 4},
        {},
        3_000_000,
        parity,
        quantization=quantization or {},
        lineage=lineage,
    )
    return model_card(manifest, figures or variant("toy-int8", 37.1234, 3.25), RECIPE)


def test_front_matter_is_what_hugging_face_reads() -> None:
    head = yaml.safe_load(card(about=ABOUT).split("---")[1])
    assert (head["license"], head["language"], head["pipeline_tag"]) == ("cc-by-2.0", ["en", "ja"], "translation")
    assert (head["datasets"], head["metrics"]) == (["toy-data"], ["bleu"])
    results = head["model-index"][0]["results"]
    assert [(r["dataset"]["split"], r["metrics"][0]["name"], r["metrics"][0]["value"]) for r in results] == [
        ("dev", "bleu_beam4", 37.1234),
        ("test", "bleu_beam4", 36.6234),
    ]


def test_card_says_of_an_error_how_good_it_is_not_how_much_of_it_is_kept() -> None:
    error = {"metric": "mse", "mode": "min", "quality": {"dev": {"mse": 0.4}, "test": {"mse": 0.4}}}
    text = card(figures={**variant("toy-int8", 1.0, 3.25), **error, "teacher_quality": {}, "quality_vs_teacher": 0.98})
    assert "Its dev mse, an error, is 98.0% as good as the teacher's." in text


def test_card_tells_what_a_user_has_to_know() -> None:
    text = card(about=ABOUT, source={"url": "somewhere"}, data_sha256="abc")
    for part in (
        "the student `toy-student`",
        'load_predictor(Path("bundles/toy/toy-int8")).predict(["Hi."])',
        "| dev | bleu_beam4 | 37.12 | 38 |",
        "| dev | bleu_greedy | – | 35 |",
        "3.25 MB (3,250,000 bytes)",
        "over 2 input shapes",
        "| agreement | `0.998` |",
        "| tolerance.agreement | `0.5` |",
        "cc-by-2.0. By Tatoeba.",
        "- Short sentences.",
        "8-bit integers",
        "How it was computed: `nrefs:1|tok:none`.",
        "| source.url | `somewhere` |",
        "| data_sha256 | `abc` |",
    ):
        assert part in text


def test_card_is_the_same_text_twice_and_holds_no_timing() -> None:
    assert card(about=ABOUT) == card(about=ABOUT)
    assert " ms" not in card(about=ABOUT)


def test_licence_is_not_made_up_when_the_data_states_none() -> None:
    text = card()
    assert yaml.safe_load(text.split("---")[1])["license"] == "other"
    assert "licence: not stated" in text


def test_card_of_static_int8_says_where_its_scales_come_from() -> None:
    layers = [{"precision": "int8"}, {"precision": "float"}]
    facts = {"method": "static", "ranking": layers, "calibration": {"samples": 77}, "certificates": {"x": {}}}
    assert "1 of 2 layers compute in 8-bit integers, with scales found on 77 training" in card(quantization=facts)
    text = card(quantization={**facts, "learned_ranges": 5})
    assert "with scales that the model was trained with" in text


def test_card_of_dynamic_int8_says_where_it_is_exact() -> None:
    text = card(quantization={"method": "dynamic", "certificates": {"x86-64-vnni": {}, "x86-64-avx2": {}}})
    assert "activations are scaled by batch" in text
    assert "Certified to compute exactly on: x86-64-vnni, x86-64-avx2." in text


def test_card_of_weight_only_says_what_has_few_bits_and_where_it_is_exact() -> None:
    facts = {"method": "weight_only", "bits": 4, "block": 32, "activations": "float"}
    text = card(quantization={**facts, "certificates": {"x86-64-vnni": {}}})
    assert "Weights have 4 bits and a scale for each 32 at most, activations are floats" in text
    assert "Certified to compute exactly on: x86-64-vnni." in text


def test_card_counts_the_models_own_multiply_adds_where_the_task_does() -> None:
    assert "parameters, 12.35 million multiply-adds an input." in card(
        variant("toy-int8", 37.0, 3.25, multiply_adds_m=12.3456)
    )
    assert "multiply-adds" not in card(variant("toy-int8", 37.0, 3.25, multiply_adds_m=None))
