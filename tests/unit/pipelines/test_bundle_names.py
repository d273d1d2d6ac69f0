"""What a user may call a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from components.core.files import write_json
from pipelines.bundle_names import find_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for variant in ("tiny-fp32", "tiny-int8"):
        write_json(tmp_path / "bundles" / "tiny" / variant / "manifest.json", {})
    write_json(tmp_path / "metrics" / "tiny" / "selection.json", {"selected": "tiny-int8"})
    return tmp_path


def test_bundle_is_found_by_folder_variant_and_recipe(root: Path) -> None:
    folder = root / "bundles" / "tiny" / "tiny-fp32"
    assert find_bundle(root, str(folder)) == folder
    assert find_bundle(root, "tiny-fp32") == folder
    assert find_bundle(root, "tiny") == root / "bundles" / "tiny" / "tiny-int8"


def test_unknown_bundle_names_the_nearest(root: Path) -> None:
    with pytest.raises(ModelpressError, match="no bundle 'tiny-int9', did you mean tiny-int8"):
        find_bundle(root, "tiny-int9")
