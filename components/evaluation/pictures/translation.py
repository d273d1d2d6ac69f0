"""Where a translator looks: which words of the source each word of the target attends to, and every head beside.

The teacher reads a test sentence and its reference. Of a Transformer the alignment is read from the last layer but one
of the decoder, where heads on average align best (Garg et al. 2019, "Jointly Learning to Align and Translate").
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from components.evaluation.charts.axes import picture, text
from components.evaluation.pictures import Picture
from components.inference.tokenizers import BOS, EOS, load_tokenizer

SENTENCES, SHORTEST, LONGEST = 3, 6, 12  # how many are shown, and tokens of their sources
CELL, SMALL, GAP = 30, 104, 10  # pixels
KINDS = {
    "encoder": ("Encoder self-attention", "source tokens looking at source tokens"),
    "decoder": ("Decoder self-attention", "target tokens looking at themselves and those before"),
    "source": ("Source-target attention", "target tokens looking at source tokens"),
}


def pictures(predictor: Any, examples: Any, teacher: Any) -> list[Picture]:
    """Return the alignments of a few sentences, and every head's matrix for the first of them."""
    chosen = [i for i, ids in enumerate(examples.sources) if SHORTEST <= len(ids) <= LONGEST][:SENTENCES]
    if not chosen:
        return []
    shown = [_Attended(examples, teacher.module, i) for i in chosen]
    found = [
        Picture(
            "Who looks where",
            "A row: a target token; a column: a source token; the darker, the more the teacher attends to it"
            f"{shown[0].where}. It reads the test sentences' own references.",
            "\n".join(f'<div class="small">{alignment_chart(s.source, s.target, s.alignment)}</div>' for s in shown),
        )
    ]
    for kind, (title, what) in KINDS.items():
        if len(shown[0].maps.get(kind, [])) > 1:
            caption = f"{shown[0].sentence}: {what}; a row of matrices a layer, a column a head."
            found.append(Picture(title, caption, heads_chart(shown[0].maps[kind])))
    return found


class _Attended:
    """One sentence pair with what the model attends to.

    maps: for each kind, an array float32 (heads, rows, columns) a layer; a row is the token about to be written.
    """

    def __init__(self, examples: Any, model: Any, row: int) -> None:
        import torch

        source_ids, target_ids = [*map(int, examples.sources[row]), EOS], [*map(int, examples.targets[row]), EOS]
        with torch.no_grad():
            maps = model.eval().attention_maps(torch.tensor([source_ids]), torch.tensor([[BOS, *target_ids[:-1]]]))
        self.maps = {kind: [layer[0].float().numpy() for layer in layers] for kind, layers in maps.items()}
        (path,) = (examples.root / "assets").glob("source.*")
        self.source = [load_tokenizer(path).piece(i) for i in source_ids]
        self.target = [examples.target_tokenizer.piece(i) for i in target_ids]
        self.sentence = f"“{examples.source_text[row].strip()}”"
        layers = self.maps["source"]
        self.alignment = layers[max(len(layers) - 2, 0)].mean(0)
        self.where = f" (mean of the heads of decoder layer {max(len(layers) - 1, 1)})" if len(layers) > 1 else ""


def alignment_chart(source: Sequence[str], target: Sequence[str], weights_TS: np.ndarray) -> str:
    """Return one matrix as SVG, its tokens beside it."""
    left, top = 16 + max(_pixels(word) for word in target), 20 + round(0.7 * max(_pixels(word) for word in source))
    marks = []
    for column, word in enumerate(source):
        x = left + column * CELL + CELL / 2
        marks.append(f'<g transform="translate({x:g} {top - 8}) rotate(-40)">{text(0, 0, word, "tick")}</g>')
    for row, word in enumerate(target):
        marks.append(text(left - 8, top + row * CELL + CELL / 2 + 4, word, "tick", "end"))
    marks += _cells(weights_TS, left, top, CELL, [f"{t} → {s}" for t in target for s in source])
    return picture(left + len(source) * CELL + 90, top + len(target) * CELL + 12, marks, "alignment")


def heads_chart(layers: Sequence[np.ndarray]) -> str:
    """Return all heads of all layers as small matrices, a row a layer."""
    marks, left, top = [], 64, 24
    for number in range(max(len(heads) for heads in layers)):
        marks.append(text(left + number * (SMALL + GAP) + SMALL / 2, top - 8, f"head {number + 1}", "tick", "middle"))
    for layer, heads in enumerate(layers):
        y = top + layer * (SMALL + GAP)
        marks.append(text(left - 10, y + SMALL / 2, f"layer {layer + 1}", "tick", "end"))
        for number, weights in enumerate(heads):
            x = left + number * (SMALL + GAP)
            marks.append(
                f'<rect x="{x}" y="{y}" width="{SMALL}" height="{SMALL}" fill="var(--bubble)" opacity="0.08"/>'
            )
            marks += _cells(weights, x, y, SMALL / max(weights.shape))
    width, height = max(len(heads) for heads in layers), len(layers)
    return picture(left + width * (SMALL + GAP) + 10, top + height * (SMALL + GAP), marks, "attention heads")


def _cells(weights: np.ndarray, left: float, top: float, side: float, titles: Sequence[str] = ()) -> list[str]:
    """Return a square a weight of at least one per cent; fainter ones would not be seen."""
    gap = 1 if side > 12 else 0
    marks = []
    for (row, column), weight in np.ndenumerate(weights):
        if weight < 0.01:
            continue
        tip = f"<title>{escape(titles[row * weights.shape[1] + column])}: {weight:.0%}</title>" if titles else ""
        marks.append(
            f'<rect x="{left + column * side:.4g}" y="{top + row * side:.4g}" width="{side - gap:.4g}" '
            f'height="{side - gap:.4g}" fill="var(--accent)" fill-opacity="{weight:.2f}">{tip}</rect>'
        )
    return marks


def _pixels(word: str) -> int:
    return sum(13 if ord(letter) > 0x2E7F else 8 for letter in word)  # Han and kana are as wide as they are high
