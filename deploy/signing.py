"""Who vouches for a bundle: its signature in OpenSSF's model-signing format, with a key pair, offline.

The signature (`model.sig`, a Sigstore bundle) covers every other file, so `model_signing verify key` reads it too.
docs/shipping.md says how a key pair is made.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core.bundle import SIGNATURE, Bundle
from components.core.errors import ModelpressError
from components.core.files import write_bytes
from components.core.sealed_folder import files_below

SIGNATURE_BYTES = 4 * 2**20  # of a bundle with thousands of files


def sign(root: Path, private_key: Path) -> Path:
    """Sign an intact bundle with an EC key (PEM; P-256, P-384 or P-521); return its signature file.

    Raises:
        ModelpressError: a damaged bundle, or not such a key.
    """
    bundle, signing = Bundle.load(root), _library("signing")
    with _key_errors(private_key, "private key"):
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    with tempfile.TemporaryDirectory() as folder:  # the signature must not be among what it signs
        made = Path(folder, SIGNATURE)
        config.set_hashing_config(_hashing()).sign(bundle.root, made)
        write_bytes(root / SIGNATURE, made.read_bytes())
    return root / SIGNATURE


def verify_signature(root: Path, public_key: Path) -> None:
    """Check that the owner of a public key (PEM) signed exactly the files that lie in `root`; parse none of them.

    Raises:
        ModelpressError: no signature, another key's, or one of other files.
    """
    signature = root / SIGNATURE
    files_below(root)  # no links: what is signed lies here
    if not signature.is_file():
        raise ModelpressError(f"{root}: not signed; `modelpress sign {root} --key key.pem` signs it")
    if signature.stat().st_size > SIGNATURE_BYTES:
        raise ModelpressError(
            f"{signature}: {signature.stat().st_size} bytes, a signature has at most {SIGNATURE_BYTES}"
        )
    verifying = _library("verifying")
    with _key_errors(public_key, "public key"):
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        config.set_hashing_config(_hashing()).verify(root, signature)
    except Exception as error:  # whatever an attacker's signature makes the library raise, it is refused
        raise ModelpressError(f"{root}: {_reason(error, public_key)}") from None


def _library(module: str) -> Any:
    """Return a module of model_signing, which takes most of a second to import."""
    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise ModelpressError(f"signatures: {error}; install `model-signing` and `pyopenssl`") from None


def _hashing() -> Any:
    """Return how files are hashed: all but the signature, git's own ones too, links refused."""
    config = _library("hashing").Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _reason(error: Exception, public_key: Path) -> str:
    text = " ".join(str(error).split())
    if text.startswith("Key mismatch"):
        return f"signed with another key than {public_key}'s"
    if text.startswith("Signature mismatch"):
        return f"its files are not the signed ones ({_difference(text)})"
    return f"{SIGNATURE} is no valid signature by {public_key}'s key"


def _difference(text: str) -> str:
    """Return model-signing's first difference without its digests, which it prints as escaped bytes."""
    changed = re.search(r"Hash mismatch for \W*(.+?)\W*: Expected", text)
    if changed:
        return f"{changed[1]} was changed"
    return text.partition(":")[2].strip(" []\"'")[:200]


@contextmanager
def _key_errors(key: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelpressError(f"{key}: can't be read ({error.strerror})") from None
    except Exception as error:  # cryptography's own kinds: malformed, encrypted, of another algorithm
        reason = " ".join(str(error).split())[:120]
        raise ModelpressError(
            f"{key}: not an EC {kind} in PEM without password ({reason}); docs/shipping.md makes a pair"
        ) from None
