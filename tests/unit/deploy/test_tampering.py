"""Whatever is done to a signed bundle or its zip: one clear line, and no graph or asset of it was ever parsed."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from components.core.errors import ModelpressError
from components.inference import load_predictor
from components.inference import translation as translation_module
from deploy.archive import pack, unpack
from deploy.signing import sign, verify_signature
from tests.unit.deploy.small_bundle import make_bundle, make_keys, seal


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ONNX Runtime and the tokenizers were given, from now on."""
    given: list[str] = []

    def spy(owner: object, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kw: (given.append(name), real(*args, **kw))[1])

    spy(onnxruntime, "InferenceSession")
    spy(translation_module, "load_tokenizer")
    return given


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path, "owner")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    bundle = make_bundle(tmp_path / "bundle")
    sign(bundle.root, keys[0])
    return bundle.root


def trust_and_answer(root: Path, public_key: Path) -> list[str]:
    """Do what a server with --require-signature does."""
    verify_signature(root, public_key)
    answers: list[str] = load_predictor(root).predict(["good morning"])
    return answers


def test_untouched_bundle_answers_from_its_folder_and_from_its_zip(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, parsed: list[str]
) -> None:
    assert trust_and_answer(signed, keys[1]) == ["good morning"]
    unpack(pack(signed, tmp_path / "b.zip"), tmp_path / "unpacked")
    assert trust_and_answer(tmp_path / "unpacked", keys[1]) == ["good morning"]
    assert parsed.count("InferenceSession") == 2
    assert parsed.count("load_tokenizer") == 4


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def edit_manifest(root: Path, **changes: object) -> None:
    path = root / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def name_outside(root: Path, name: str) -> None:
    edit_manifest(root, files={**json.loads((root / "manifest.json").read_text())["files"], name: "0" * 64})


def weights_from(root: Path, location: str) -> None:
    """Let the graph take a weight from a file outside, and seal that: what an attacker without the key can do."""
    weight = TensorProto(name="w", data_type=TensorProto.INT64, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        weight.external_data.add(key=key, value=value)
    model = onnx.load(root / "translate.onnx")
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Add", ["source", "w"], ["target"]))
    model.graph.initializer.append(weight)
    (root / "translate.onnx").write_bytes(model.SerializeToString())
    seal(root)


def replace_resealed(root: Path) -> None:
    (root / "assets" / "source.txt").write_text("<pad>\n<unk>\n<s>\n</s>\nevil\nmorning\n")
    seal(root)


FOLDER_TAMPERING: dict[str, Callable[[Path], object]] = {
    "one byte of the graph": lambda root: change_byte(root / "translate.onnx"),
    "one byte of an asset": lambda root: change_byte(root / "assets" / "source.txt"),
    "one byte of the manifest": lambda root: change_byte(root / "manifest.json"),
    "one byte of the golden examples": lambda root: change_byte(root / "golden.json"),
    "a file added": lambda root: (root / "assets" / "extra.txt").write_text("x"),
    "a hidden file added": lambda root: (root / ".gitattributes").write_text("x"),
    "an empty folder added": lambda root: (root / "more").mkdir(),
    "a file removed": lambda root: (root / "assets" / "target.txt").unlink(),
    "the manifest removed": lambda root: (root / "manifest.json").unlink(),
    "a file that is a link": lambda root: link(root / "translate.onnx"),
    "a folder that is a link": lambda root: link(root / "assets"),
    "a manifest that is a link": lambda root: link(root / "manifest.json"),
    "a folder where a file should be": lambda root: (
        (root / "golden.json").unlink(),
        (root / "golden.json").mkdir(),
    ),
    "a traversal in the manifest": lambda root: name_outside(root, "../key.pem"),
    "an absolute name in the manifest": lambda root: name_outside(root, "/etc/passwd"),
    "a huge manifest": lambda root: (root / "manifest.json").write_bytes(b" " * (5 * 2**20)),
    "a manifest that is not UTF-8": lambda root: (root / "manifest.json").write_bytes(b'{"a": "\xff"}'),
    "a manifest nested too deep": lambda root: (root / "manifest.json").write_text("[" * 100_000),
    "a manifest with a key twice": lambda root: (root / "manifest.json").write_text(
        '{"task": "evil", ' + (root / "manifest.json").read_text().lstrip()[1:]
    ),
    "a manifest of other types": lambda root: edit_manifest(root, files=["translate.onnx"]),
    "a graph outside": lambda root: edit_manifest(
        root,
        graphs={"translate": {"file": "../evil.onnx", "inputs": [], "outputs": [], "opset": 20}},
    ),
    "weights from /etc/passwd": lambda root: weights_from(root, "/etc/passwd"),
    "weights from above": lambda root: weights_from(root, "../../etc/passwd"),
}


@pytest.mark.parametrize("tamper", FOLDER_TAMPERING.values(), ids=FOLDER_TAMPERING)
@pytest.mark.parametrize("require_signature", [True, False], ids=["signed", "unsigned"])
def test_tampered_folder_is_refused_in_one_line_before_anything_is_parsed(
    signed: Path,
    keys: tuple[Path, Path],
    parsed: list[str],
    tamper: Callable[[Path], object],
    require_signature: bool,
) -> None:
    tamper(signed)
    with pytest.raises(ModelpressError) as error:
        trust_and_answer(signed, keys[1]) if require_signature else load_predictor(signed)
    assert len(str(error.value).splitlines()) == 1
    assert str(signed) in str(error.value)
    assert parsed == []


def test_weights_from_a_file_that_is_not_sealed_are_refused_by_us_and_not_by_onnx_runtime(
    signed: Path, parsed: list[str]
) -> None:
    weights_from(signed, "../../etc/passwd")
    with pytest.raises(ModelpressError, match=r"takes weights from '../../etc/passwd', which is not a file"):
        load_predictor(signed)
    assert parsed == []


def other_key(root: Path, folder: Path) -> Path:
    return make_keys(folder, "other")[1]


def signed_by_another(root: Path, folder: Path) -> None:
    replace_resealed(root)
    sign(root, make_keys(folder, "attacker")[0])


def forged_hint(root: Path, folder: Path) -> None:
    """Another's signature that claims to be made with the owner's key."""
    hint = json.loads((root / "model.sig").read_text())["verificationMaterial"]["publicKey"]["hint"]
    signed_by_another(root, folder)
    forged = json.loads((root / "model.sig").read_text())
    forged["verificationMaterial"]["publicKey"]["hint"] = hint
    (root / "model.sig").write_text(json.dumps(forged))


SIGNATURE_TAMPERING: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "wrong key": (other_key, "another key"),
    "resealed by someone without the key": (lambda root, _: replace_resealed(root), "not the signed ones"),
    "signed by someone else": (signed_by_another, "another key"),
    "signed by someone else in the owner's name": (forged_hint, "no valid signature"),
    "signature removed": (lambda root, _: (root / "model.sig").unlink(), "not signed"),
    "signature emptied": (lambda root, _: (root / "model.sig").write_bytes(b""), "no valid signature"),
    "signature of other JSON": (lambda root, _: (root / "model.sig").write_text("[]"), "no valid signature"),
    "signature too long": (lambda root, _: (root / "model.sig").write_bytes(b" " * (5 * 2**20)), "at most"),
    "one byte of the signature": (lambda root, _: change_byte(root / "model.sig"), "no valid signature"),
}


@pytest.mark.parametrize(("tamper", "said"), SIGNATURE_TAMPERING.values(), ids=SIGNATURE_TAMPERING)
def test_signature_that_is_not_the_owners_is_refused_in_one_line_before_anything_is_parsed(
    signed: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
    parsed: list[str],
    tamper: Callable[[Path, Path], object],
    said: str,
) -> None:
    public_key = tamper(signed, tmp_path)
    with pytest.raises(ModelpressError, match=said) as error:
        trust_and_answer(signed, public_key if isinstance(public_key, Path) else keys[1])
    assert len(str(error.value).splitlines()) == 1
    assert parsed == []


def add(archive: Path, name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> None:
    entry = zipfile.ZipInfo(name)
    entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(entry, data)


def add_many(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as target:
        for number in range(1001):
            target.writestr(f"f{number}", b"")


def declare_size(archive: Path, size: int) -> None:
    """Write another unpacked size for the first file into the zip's directory."""
    data = bytearray(archive.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, size)
    archive.write_bytes(data)


def damage_content(archive: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        entry = source.getinfo("translate.onnx")
    data = bytearray(archive.read_bytes())
    data[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 1
    archive.write_bytes(data)


def replace_member(archive: Path) -> None:
    """A zip as sound as before, with one byte of one file changed."""
    with zipfile.ZipFile(archive) as source:
        members = {name: source.read(name) for name in source.namelist()}
    members["translate.onnx"] = members["translate.onnx"][:-1] + b"?"
    with zipfile.ZipFile(archive, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)


ZIP_TAMPERING: dict[str, Callable[[Path], object]] = {
    "one byte of packed content": damage_content,
    "one byte of a file, packed anew": replace_member,
    "a file added": lambda archive: add(archive, "extra.txt"),
    "traversal": lambda archive: add(archive, "../evil"),
    "traversal inside": lambda archive: add(archive, "assets/../../evil"),
    "absolute name": lambda archive: add(archive, "/tmp/evil"),
    "backslashes": lambda archive: add(archive, "..\\evil"),
    "drive": lambda archive: add(archive, "C:evil"),
    "line break in a name": lambda archive: add(archive, "a\nb"),
    "link": lambda archive: add(archive, "link", b"/etc/passwd", stat.S_IFLNK | 0o777),
    "device": lambda archive: add(archive, "device", b"", stat.S_IFCHR | 0o666),
    "file twice": lambda archive: add(archive, "translate.onnx"),
    "file twice but for case": lambda archive: add(archive, "Translate.onnx"),
    "bomb by ratio": lambda archive: add(archive, "bomb", bytes(20 * 2**20)),
    "bomb by declared size": lambda archive: declare_size(archive, 2**32 - 2),
    "longer than declared": lambda archive: declare_size(archive, 10),
    "shorter than declared": lambda archive: declare_size(archive, 100_000),
    "too many files": add_many,
    "cut off": lambda archive: archive.write_bytes(archive.read_bytes()[:-30]),
    "bytes behind its end": lambda archive: archive.write_bytes(archive.read_bytes() + b"PK\5\6"),
    "bytes before its start": lambda archive: archive.write_bytes(b"#!/bin/sh\n" + archive.read_bytes()),
    "empty": lambda archive: archive.write_bytes(b""),
    "removed": lambda archive: archive.unlink(),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("tamper", ZIP_TAMPERING.values(), ids=ZIP_TAMPERING)
def test_tampered_zip_is_refused_in_one_line_and_leaves_nothing(
    signed: Path, tmp_path: Path, parsed: list[str], tamper: Callable[[Path], object]
) -> None:
    place = tmp_path / "inbox"
    archive = pack(signed, place / "b.zip")
    tamper(archive)
    before = sorted(place.iterdir())
    with pytest.raises(ModelpressError) as error:
        unpack(archive, place / "unpacked")
    assert len(str(error.value).splitlines()) == 1
    assert str(archive) in str(error.value)
    assert sorted(place.iterdir()) == before
    assert not (tmp_path / "evil").exists()
    assert parsed == []


@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_unpack_replaces_nothing(signed: Path, tmp_path: Path, taken: str) -> None:
    archive, target = pack(signed, tmp_path / "b.zip"), tmp_path / "here"
    if taken == "folder":
        shutil.copytree(signed, target)
    elif taken == "link":
        target.symlink_to(signed)
    else:
        target.write_text("mine")
    with pytest.raises(ModelpressError, match="exists already"):
        unpack(archive, target)
    assert target.exists()
