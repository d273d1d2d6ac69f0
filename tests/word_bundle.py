"""A bundle that translates word by word, in milliseconds: version n says t(k + n) for the k-th word.

Real graph, tokenizers and predictor; what it must answer is known, whatever shares its batch.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from components.core.bundle import MANIFEST, Bundle, GraphInfo, Manifest, TensorInfo
from components.core.files import sha256_file, write_json, write_text
from components.inference.tokenizers import SPECIAL_TOKENS

WORDS = 50
MODEL = "words"


def translation(text: str, version: int) -> str:
    """Return what version n of the bundle answers."""
    return " ".join(f"t{(int(word[1:]) + version) % WORDS}" for word in text.split())


def write_word_bundle(
    folder: Path,
    version: int,
    rounds: int = 0,
    golden: dict[str, str] | None = None,
    graphs: tuple[str, ...] = ("translate",),
) -> Path:
    """Write the bundle. rounds: of an idle loop in its graph, which makes it slow. golden: other answers to promise.

    graphs: names its one graph has; with several, a bundle of several graphs.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "assets").mkdir(parents=True)
    for side, letter in (("source", "w"), ("target", "t")):
        words = [*SPECIAL_TOKENS, *(f"{letter}{number}" for number in range(WORDS))]
        write_text(folder / "assets" / f"{side}.txt", "".join(f"{word}\n" for word in words))
    onnx.save(word_graph(version, rounds), str(folder / "translate.onnx"))
    texts = ["w1 w2 w3", "w4", *(f"w{number} w{number * 7 % WORDS}" for number in range(6))]
    promised = golden or {text: translation(text, version) for text in texts}
    examples = [{"input": text, "output": answer, "reference": ""} for text, answer in promised.items()]
    write_json(folder / "golden.json", {"examples": examples})
    write_text(folder / "MODEL_CARD.md", f"# words {version}\n")
    tensors = [(TensorInfo(name, "int64", ("batch", "length")),) for name in ("source", "target")]
    graph = GraphInfo("translate.onnx", *tensors, 20)
    infos = dict.fromkeys(graphs, graph)
    manifest = Manifest("translation", MODEL, f"{MODEL}-fp32", MODEL, "fp32", "cpu", "translation", {}, infos, 1)
    Bundle.save(folder, manifest)
    return folder


def word_graph(version: int, rounds: int) -> onnx.ModelProto:
    """Return target = table[source], after a loop that does nothing `rounds` times."""
    source, target = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("source", "target")
    )
    first = len(SPECIAL_TOKENS)
    table = [*range(first), *(first + (number + version) % WORDS for number in range(WORDS))]
    weights = [helper.make_tensor("table", TensorProto.INT64, [len(table)], table)]
    nodes = [helper.make_node("Gather", ["table", "source"], ["found"])]
    if rounds:
        weights.append(helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]))
        weights.append(helper.make_tensor("zero", TensorProto.INT64, [], [0]))
        nodes.append(helper.make_node("Loop", ["rounds", "", "zero"], ["still_zero"], body=_idle()))
        nodes.append(helper.make_node("Add", ["found", "still_zero"], ["target"]))
    else:
        nodes.append(helper.make_node("Identity", ["found"], ["target"]))
    graph = helper.make_graph(nodes, "words", [source], [target], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _idle() -> Any:
    number, go_on, value, next_value = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (
            ("number", TensorProto.INT64), ("go_on", TensorProto.BOOL),
            ("value", TensorProto.INT64), ("next_value", TensorProto.INT64),
        )
    )  # fmt: skip
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    nodes = [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Abs", ["value"], ["next_value"])]
    return helper.make_graph(nodes, "idle", [number, go_on, value], [still, next_value])


def register_word_bundle(root: Path, folder: Path) -> int:
    """Register a bundle as `modelpress run` does, without the seconds MLflow takes to log the graph as well."""
    from components.tracking.registration import BUNDLE_ARTIFACT
    from components.tracking.store import connect, open_experiment

    client = connect(root)
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
    run = client.create_run(open_experiment(client, root, MODEL)).info
    client.log_artifacts(run.run_id, str(folder), BUNDLE_ARTIFACT)
    tags = {"bundle_sha256": sha256_file(folder / MANIFEST), "variant": f"{MODEL}-fp32"}
    source = f"{run.artifact_uri}/{BUNDLE_ARTIFACT}"
    return int(client.create_model_version(MODEL, source, run.run_id, tags=tags).version)
