"""What a classifier mixes up: its confusion matrix, and the pictures it is most sure and most wrong about."""

from __future__ import annotations

from html import escape
from typing import Any

from components.evaluation.charts.confusion import mix_ups
from components.evaluation.labelled import surest_mistakes
from components.evaluation.pictures import Picture

MISTAKES = 24


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the confusion matrix and the worst mistakes on these examples."""
    inputs, references = examples.inputs(), examples.references()
    answers = predictor.predict(inputs)
    wrong = surest_mistakes(answers, references)
    found = f"{len(wrong):,} of {len(inputs):,} test pictures are labelled wrong."
    return [
        Picture(
            "What it mixes up",
            f"A row: pictures of one class; a column: what the chosen variant calls them. {found}",
            mix_ups(references, [answer["label"] for answer in answers]),
        ),
        Picture(
            "Surest mistakes",
            "The wrong labels it gave the highest probability, and the right ones.",
            "\n".join(_mistake(inputs[i], answers[i], references[i]) for i in wrong[:MISTAKES]),
        ),
    ]


def _mistake(source: str, answer: dict[str, Any], wanted: str) -> str:
    label = answer["label"]
    return (
        f'<figure class="thumb"><img src="{escape(source)}" alt="{escape(wanted)}">'
        f'<figcaption><b class="miss">{escape(label)}</b> {answer["probabilities"][label]:.0%}<br>{escape(wanted)}'
        "</figcaption></figure>"
    )
