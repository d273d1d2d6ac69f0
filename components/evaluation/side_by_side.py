"""Golden examples as a reader compares them: source, reference, the teacher's answer, the chosen variant's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.core.bundle import Bundle
from components.core.files import read_json

SHOWN = 20


def side_by_side(bundles: Mapping[str, Bundle], selection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the golden examples with the answers of the teacher's first variant and the chosen one's."""
    golden = {name: read_json(bundle.root / "golden.json")["examples"] for name, bundle in bundles.items()}
    recipe = selection["recipe"]
    teacher = next((row["variant"] for row in selection["variants"] if row["parent"] == recipe), selection["selected"])
    shown = dict.fromkeys([teacher, selection["selected"]])
    return [
        {
            "source": example["input"],
            "reference": example["reference"],
            "outputs": {name: golden[name][index]["output"] for name in shown},
        }
        for index, example in enumerate(golden[selection["selected"]][:SHOWN])
    ]
