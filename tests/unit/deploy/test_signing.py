"""Signatures are OpenSSF model-signing's own, made offline, and survive a move of the bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.bundle import Bundle
from components.core.errors import ModelpressError
from deploy.signing import sign, verify_signature
from tests.unit.deploy.small_bundle import make_bundle, make_keys


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path, "owner")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle").root


def test_signed_bundle_loads_and_verifies_wherever_it_lies(root: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    assert sign(root, keys[0]) == root / "model.sig"
    moved = shutil.move(root, tmp_path / "under" / "another-name")
    verify_signature(moved, keys[1])
    assert "model.sig" not in Bundle.load(moved).manifest.files


def test_signing_again_replaces_the_signature(root: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(root, keys[0])
    new_private, new_public = make_keys(tmp_path, "new")
    sign(root, new_private)
    verify_signature(root, new_public)


def test_model_signings_own_command_verifies_it(root: Path, keys: tuple[Path, Path]) -> None:
    signature = sign(root, keys[0])
    command = [str(Path(sys.executable).parent / "model_signing"), "verify", "key", str(root),
               "--signature", str(signature), "--public_key", str(keys[1])]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_documented_commands_make_a_pair_that_signs(root: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "shipping.md").read_text()
    commands = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ openssl")]
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
    sign(root, tmp_path / "key.pem")
    verify_signature(root, tmp_path / "pub.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0


def test_damaged_bundle_is_not_signed(root: Path, keys: tuple[Path, Path]) -> None:
    (root / "golden.json").write_text("{}")
    with pytest.raises(ModelpressError, match="sha256 differs"):
        sign(root, keys[0])
    assert not (root / "model.sig").exists()


def encrypted(folder: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    (folder / "encrypted.pem").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*how))
    return folder / "encrypted.pem"


def of_another_algorithm(folder: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ed25519.pem").write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(*how))
    return folder / "ed25519.pem"


@pytest.mark.parametrize(
    "key",
    [encrypted, of_another_algorithm, lambda folder: folder / "missing", lambda folder: folder / "owner-public.pem"],
)
def test_key_that_cannot_sign_is_named_in_one_line(root: Path, keys: tuple[Path, Path], tmp_path: Path, key) -> None:  # type: ignore[no-untyped-def]
    path = key(tmp_path)
    with pytest.raises(ModelpressError) as error:
        sign(root, path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1
