"""Pairs on disk: what is too long for a model is refused where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from components.data.parallel_dataset import LONGEST, prepare_pairs
from tests.workspace import small_corpus


def test_sentence_longer_than_a_model_knows_positions_is_named(tmp_path: Path) -> None:
    small_corpus(tmp_path / "raw")
    path = tmp_path / "raw" / "dev.en"
    lines = path.read_text("utf-8").splitlines()
    lines[6] = "very " * (LONGEST + 1)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with pytest.raises(ModelpressError, match=rf"^dev, source 7: {LONGEST + 1} tokens, at most {LONGEST} are read"):
        prepare_pairs(tmp_path / "raw", tmp_path / "out", {"reader": "parallel_text"}, "word", 0, 1, "none")
