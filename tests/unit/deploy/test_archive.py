"""A packed bundle comes out as it went in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.core.bundle import Bundle
from components.core.errors import ModelpressError
from components.core.files import sha256_tree
from deploy.archive import Limits, pack, unpack
from deploy.signing import sign
from tests.unit.deploy.small_bundle import make_bundle, make_keys, seal


def test_round_trip_keeps_every_byte_and_the_signature(tmp_path: Path) -> None:
    root = make_bundle(tmp_path / "bundle").root
    sign(root, make_keys(tmp_path, "owner")[0])
    unpacked = unpack(pack(root, tmp_path / "out" / "b.zip"), tmp_path / "deep" / "unpacked")
    assert isinstance(unpacked, Bundle)
    assert sha256_tree(unpacked.root) == sha256_tree(root)


def test_same_bundle_packs_to_the_same_bytes(tmp_path: Path) -> None:
    root = make_bundle(tmp_path / "bundle").root
    first = pack(root, tmp_path / "1.zip").read_bytes()
    os.utime(root / "translate.onnx", (1, 1))
    assert pack(root, tmp_path / "2.zip").read_bytes() == first


def test_pack_replaces_no_file(tmp_path: Path) -> None:
    root, taken = make_bundle(tmp_path / "bundle").root, tmp_path / "b.zip"
    taken.write_text("mine")
    with pytest.raises(ModelpressError, match="exists already"):
        pack(root, taken)
    assert taken.read_text() == "mine"


def test_bundle_another_machine_would_refuse_is_not_packed(tmp_path: Path) -> None:
    root = make_bundle(tmp_path / "bundle").root
    (root / "assets" / "zeros").write_bytes(bytes(5 * 2**20))
    seal(root)
    with pytest.raises(ModelpressError, match="a bomb"):
        pack(root, tmp_path / "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(files=3), "at most 3"),
        (Limits(total_bytes=100), "bytes when unpacked, at most 100"),
        (Limits(directory_bytes=100), "in 100"),
    ],
)
def test_limits_hold(tmp_path: Path, limits: Limits, said: str) -> None:
    archive = pack(make_bundle(tmp_path / "bundle").root, tmp_path / "b.zip")
    with pytest.raises(ModelpressError, match=said):
        unpack(archive, tmp_path / "unpacked", limits)
    assert not (tmp_path / "unpacked").exists()
