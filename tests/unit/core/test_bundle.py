"""A bundle is loaded only if it holds exactly the files its manifest names, unchanged."""

import json
import zlib
from pathlib import Path

import pytest

from components.core.bundle import Bundle, GraphInfo, Manifest, TensorInfo
from components.core.errors import ModelpressError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    (root / "assets").mkdir(parents=True)
    (root / "g.onnx").write_bytes(b"graph")
    (root / "assets" / "words.txt").write_text("a\n")
    (root / "MODEL_CARD.md").write_text("card")
    info = TensorInfo("x", "float", ("batch", 3))
    graphs = {"g": GraphInfo("g.onnx", (info,), (info,), 20)}
    Bundle.save(root, Manifest("t", "r", "v", "r", "fp32", "cpu", "p", {"beam": 1}, graphs, 10))
    return root


def test_round_trip_gives_the_same_manifest_and_counts_what_answers(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.manifest.graphs["g"].inputs[0].shape == ("batch", 3)
    assert loaded.size_bytes() == len(b"graph") + len("a\n")
    assert loaded.deflated_bytes() == len(zlib.compress(b"graph")) + len(zlib.compress(b"a\n"))
    before = (bundle / "manifest.json").read_bytes()
    Bundle.save(bundle, loaded.manifest)
    assert (bundle / "manifest.json").read_bytes() == before


def _change(bundle: Path) -> None:
    (bundle / "g.onnx").write_bytes(b"graphs")


def _remove(bundle: Path) -> None:
    (bundle / "g.onnx").unlink()


def _add(bundle: Path) -> None:
    (bundle / "assets" / "more").write_text("")


def _link(bundle: Path) -> None:
    (bundle / "g.onnx").rename(bundle.parent / "g")
    (bundle / "g.onnx").symlink_to(bundle.parent / "g")


def _outside(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["files"]["../g"] = "0"
    (bundle / "manifest.json").write_text(json.dumps(raw))


def _newer(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**raw, "schema_version": 99}))


def _empty(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("")


def _list(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[]")


@pytest.mark.parametrize("tamper", [_change, _remove, _add, _link, _outside, _newer, _empty, _list])
def test_tampering_is_refused_in_one_line(bundle: Path, tamper) -> None:  # type: ignore[no-untyped-def]
    tamper(bundle)
    with pytest.raises(ModelpressError) as error:
        Bundle.load(bundle)
    assert len(str(error.value).splitlines()) == 1
    assert str(bundle) in str(error.value)


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelpressError, match="not a bundle"):
        Bundle.load(tmp_path)
