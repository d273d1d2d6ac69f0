"""What fills the blanks: the model's guesses beside those of neighbour counts, and who guesses which words right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.axes import Scale, line, number, padded, picture, text
from components.evaluation.pictures import Picture
from components.inference.masked_language_model import FIRST_WORD

SENTENCES = 9
BAR, COLUMN, ROW = 70, 170, 20  # pixels
RANKS = (1, 11, 101, 1001, 4001)  # where each group of words begins, the most frequent word being the first
NAMES = {"unigram": "how often words occur", "bigram": "counts of both neighbours", "model": "the chosen variant"}


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the first sentences' blanks, and the accuracy for frequent and for rare words."""
    answers = predictor.predict(examples.inputs())
    found = [Picture("Who knows which words", *frequency_figure(answers, examples))]
    if examples.shown:
        cards = [sentence_card(i, answers[i], examples) for i in range(min(SENTENCES, examples.shown))]
        caption = (
            "The likeliest words for each blank with their probabilities: left the chosen variant's, right what the "
            "counts of both neighbours say. The sentences are ours; the word in brackets is a person's."
        )
        found.insert(0, Picture("Blanks, filled", caption, "\n".join(f'<div class="small">{c}</div>' for c in cards)))
    return found


def sentence_card(row: int, answer: Mapping[str, Any], examples: Any) -> str:
    """Return a sentence's first blank as SVG: two columns of words with bars."""
    sentence = examples.texts[row]
    bigram = {
        examples.tokenizer.piece(int(word)): float(value)
        for word, value in zip(
            examples.guesses["bigram_word"][row, 0], examples.guesses["bigram_probability"][row, 0], strict=True
        )
        if word >= FIRST_WORD
    }
    wanted = examples.tokenizer.piece(int(examples.hidden_words()[row, 0]))
    marks = [text(0, 14 + 17 * i, part, "label") for i, part in enumerate(_wrapped(sentence))]
    top = 17 * len(marks) + 26
    marks += [text(COLUMN * i, top - 10, name, "tick") for i, name in enumerate(("model", "counts"))]
    for column, guesses in enumerate((answer["blanks"][0], bigram)):
        marks += _bars(guesses, wanted, column * COLUMN, top)
    return picture(2 * COLUMN, top + 5 * ROW + 6, marks, sentence)


def _bars(guesses: Mapping[str, float], wanted: str, x: float, y: float) -> list[str]:
    marks = []
    for place, (word, value) in enumerate(guesses.items()):
        bottom = y + place * ROW
        colour = "var(--accent)" if word == wanted else "var(--bubble)"
        marks.append(
            f'<rect x="{number(x)}" y="{number(bottom + 2)}" width="{number(max(BAR * value, 1))}" height="{ROW - 6}" '
            f'rx="3" fill="{colour}" fill-opacity="0.75"><title>{escape(word)} {value:.1%}</title></rect>'
        )
        marks.append(text(x + BAR * value + 6, bottom + 13, f"{word} {value:.0%}", "tick"))
    return marks


def _wrapped(sentence: str, width: int = 46) -> list[str]:
    """Return a sentence in lines of at most so many letters."""
    lines = [""]
    for word in sentence.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def frequency_figure(answers: Sequence[Mapping[str, Any]], examples: Any) -> tuple[str, str]:
    """Return caption and chart of the accuracy by how frequent the hidden word is."""
    counted_NB, word_NB = examples.counted(), examples.hidden_words()
    words = word_NB[counted_NB]
    right = {name: (examples.guesses[f"{name}_word"][:, :, 0] == word_NB)[counted_NB] for name in ("unigram", "bigram")}
    guessed = [next(iter(found)) for answer in answers[examples.shown :] for found in answer["blanks"]]
    right["model"] = np.array(guessed) == np.array([examples.tokenizer.piece(int(word)) for word in words])
    ranks = words - FIRST_WORD + 1
    group = np.searchsorted(RANKS, ranks, side="right") - 1
    present = [i for i in range(len(RANKS)) if (group == i).any()]
    shares = {name: [float(hits[group == i].mean()) for i in present] for name, hits in right.items()}
    ends = [*(start - 1 for start in RANKS[1:]), len(examples.tokenizer) - FIRST_WORD]
    labels = [f"{RANKS[i]:,} to {ends[i]:,}" for i in present]
    counts = [int((group == i).sum()) for i in present]
    overall = ", ".join(f"{NAMES[name]} {hits.mean():.1%}" for name, hits in right.items())
    caption = f"Share of {len(words):,} hidden words of test guessed right, by the word's rank in train: {overall}."
    return caption, accuracy_chart(labels, counts, shares)


def accuracy_chart(labels: Sequence[str], counts: Sequence[int], shares: Mapping[str, Sequence[float]]) -> str:
    """Return grouped bars as SVG: a group a range of ranks, a bar for each who guessed."""
    left, top, bottom, group, bar = 60, 34, 300, 130, 30
    _, high = padded([0.0, *(share for row in shares.values() for share in row)], 0.05)
    y = Scale(0.0, min(high, 1.0), bottom, top)
    right = left + group * len(labels)
    marks = [line(left, y(tick), right, y(tick), "grid") for tick in y.ticks()]
    marks += [text(left - 8, y(tick) + 4, f"{tick:.0%}", "tick", "end") for tick in y.ticks()]
    for series, (name, row) in enumerate(shares.items()):
        colour, opacity = ("var(--accent)", 0.85) if name == "model" else ("var(--bubble)", 0.35 + 0.3 * series)
        fill = f'fill="{colour}" fill-opacity="{opacity:.2f}"'
        marks.append(f'<rect x="{left + 200 * series}" y="6" width="12" height="12" rx="3" {fill}/>')
        marks.append(text(left + 200 * series + 18, 17, NAMES[name], "tick"))
        for place, share in enumerate(row):
            x = left + place * group + 16 + series * (bar + 3)
            marks.append(
                f'<rect x="{x}" y="{number(y(share))}" width="{bar}" height="{number(bottom - y(share))}" {fill}>'
                f"<title>{NAMES[name]}: {share:.1%}</title></rect>"
            )
    for place, (label, count) in enumerate(zip(labels, counts, strict=True)):
        middle = left + place * group + 16 + 1.5 * bar + 3
        marks.append(text(middle, bottom + 18, label, "tick", "middle"))
        marks.append(text(middle, bottom + 34, f"{count:,} blanks", "tick", "middle"))
    marks.append(line(left, bottom, right, bottom, "axis"))
    return picture(max(right + 10, left + 620), bottom + 44, marks, "accuracy by word frequency")
