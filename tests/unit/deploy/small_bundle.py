"""A real bundle of a few hundred bytes: a translator whose graph gives back what it gets, over a list of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx import TensorProto, helper, save

from components.core.bundle import Bundle, GraphInfo, Manifest, TensorInfo
from components.core.files import write_json, write_text
from components.inference.tokenizers import SPECIAL_TOKENS

WORDS = (*SPECIAL_TOKENS, "good", "morning")


def make_bundle(root: Path, precision: str = "fp32", shape: Sequence[str | int] = ("batch", "length")) -> Bundle:
    """Write the bundle to `root` and return it; shape: of the graph's input and output."""
    root.mkdir(parents=True, exist_ok=True)
    source, target = (helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("source", "target"))
    graph = helper.make_graph([helper.make_node("Identity", ["source"], ["target"])], "g", [source], [target])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), root / "translate.onnx")
    for side in ("source", "target"):
        write_text(root / "assets" / f"{side}.txt", "".join(f"{word}\n" for word in WORDS))
    write_json(root / "golden.json", {"examples": [{"input": "good morning", "output": "good morning"}]})
    return seal(root, precision, shape)


def seal(root: Path, precision: str = "fp32", shape: Sequence[str | int] = ("batch", "length")) -> Bundle:
    """Write a manifest over the files that lie in `root`, as whoever changed them could."""
    tensors = [(TensorInfo(name, "int64", tuple(shape)),) for name in ("source", "target")]
    graphs = {"translate": GraphInfo("translate.onnx", *tensors, 20)}
    manifest = Manifest("translation", "toy", "toy-fp32", "toy", precision, "cpu", "translation", {}, graphs, 0)
    return Bundle.save(root, manifest)


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the files of a new P-256 key pair: private, public."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
