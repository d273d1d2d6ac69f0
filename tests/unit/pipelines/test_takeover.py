"""One flow at a time, and what a killed one left."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from pipelines.takeover import no_flow_beside, only_flow


@pytest.mark.parametrize("left", ["search", "0d1f2a", ""])
def test_what_was_killed_is_named_and_what_ended_is_not(tmp_path: Path, left: str) -> None:
    lock = tmp_path / ".modelpress" / "flow.lock"
    lock.parent.mkdir()
    lock.write_text(f"123 {left}" if left else "")
    with only_flow(tmp_path, "mine") as abandoned:
        assert abandoned == (left or None)
        assert lock.read_text().endswith(" mine")
        with pytest.raises(ModelpressError, match="another run is going on here"), no_flow_beside(tmp_path):
            pass
    assert lock.read_text() == ""
