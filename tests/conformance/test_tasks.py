"""What every task and every recipe of params.yaml must fulfil; a new task is covered by being there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import numpy_helper
from PIL import Image

from components.core.config import parse_config
from components.core.errors import ConfigError, ModelpressError
from components.core.files import sha256_tree
from components.core.params import Calibration, Params, Quantize, load_params
from components.core.task import ClosedForm, GraphSpec, LoopSpec, Task, TrainedModel, load_task, task_names
from components.core.tolerance import tolerance_for
from components.export.export import export_model
from components.export.initializers import all_graphs
from components.export.saturation import pairs_at_risk
from components.export.torch_predictor import torch_predictor
from components.inference import load_predictor
from components.inference.wav import wav_bytes
from pipelines.params_check import check_params
from tests.workspace import REPOSITORY, small_corpus, tiny_params

PARAMS = load_params(REPOSITORY / "params.yaml")


def test_shipped_params_pass_the_full_check() -> None:
    check_params(PARAMS)


def test_full_check_reports_every_block_at_once() -> None:
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text("utf-8"))
    raw["recipes"]["tatoeba-transformer"]["train"]["lrr"] = 1
    raw["recipes"]["tanaka-rnn"]["model"]["celll"] = "gru"
    raw["students"]["tanaka-student"]["passes"][0]["distill"]["logit"]["temprature"] = 2
    raw["students"]["tatoeba-pruned"]["passes"].append({"squeeze": {}})
    raw["variants"]["tatoeba-teacher-int8"]["options"] = {"beem": 4}
    raw["variants"]["tatoeba-teacher-fp16"]["tolerance"] = {"agrement": 1}
    with pytest.raises(ConfigError) as error:
        check_params(parse_config(Params, raw, ""))
    text = str(error.value)
    for expected in (
        "recipes.tatoeba-transformer.train.lrr: unknown key",
        "recipes.tanaka-rnn.model.celll: unknown key, did you mean cell?",
        "temprature: unknown key, did you mean temperature?",
        "unknown pass 'squeeze'",
        "variants.tatoeba-teacher-int8.options.beem: unknown key, did you mean beam?",
        "variants.tatoeba-teacher-fp16.tolerance.agrement: unknown key, did you mean agreement?",
    ):
        assert expected in text


def test_a_task_is_these_methods_and_no_more() -> None:
    methods = {name for name, value in vars(Task).items() if getattr(value, "__isabstractmethod__", False)}
    assert methods == {"prepare", "dataset", "build_model", "step", "graphs", "score", "score_model"}


@pytest.mark.parametrize("name", task_names())
def test_task_module_says_what_to_expect(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert "Metric" in (inspect.getdoc(inspect.getmodule(type(task))) or ""), "the module docstring names the metric"


@dataclass(frozen=True)
class Toy:
    """A task's own small data: what writes its raw files, and the recipe's and variant's blocks that go with them."""

    write_raw: Callable[[Path], object]
    split: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)  # what every model of the task is given


def small_photos(folder: Path) -> None:
    """Write 8 x 8 photos of two classes, brighter left or brighter right, and their lists."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 120), ("test", 40)):
        paths = [f"{('left', 'right')[number % 2]}/{split}_{number}.png" for number in range(count)]
        for number, path in enumerate(paths):
            pixels = rng.integers(0, 128, (8, 8, 3), np.uint8)
            pixels[:, 4 * (number % 2) :][:, :4] += 90
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / path)
        (folder / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")


def prepared_photos(folder: Path) -> Path:
    """Prepare small_photos below a folder; return where."""
    small_photos(folder / "raw")
    task = load_task("image_classification")
    task.prepare(folder / "raw", folder / "prepared", {"reader": "image_folder", "dev_per_class": 20}, task.Data())
    return folder / "prepared"


def small_library(folder: Path) -> None:
    """Write a book whose sentences keep to one of five topics, and questions about its words."""
    rng = np.random.default_rng(0)
    topics = [[f"{letter}{ending}" for ending in "abcdefghijkl"] for letter in "vwxyz"]
    sentences = [" ".join(rng.choice(topics[rng.integers(5)], 12)) for _ in range(400)]
    pairs = [
        (a, b, 9 if one is other else 1)
        for one in topics
        for other in topics[:2]
        for a, b in zip(one, other[1:], strict=False)
    ]
    for path, lines in {
        "books/topics.md": ["# Topics", *sentences],
        "ratings.txt": [f"{a} {b} {rating}" for a, b, rating in pairs],
        "analogies.txt": [": gram1-toy", "va vb wa wb", ": capitals", "xa xb ya yb"],
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def small_books(folder: Path) -> None:
    """Write books that say two words over and over for 64 words, then two others; and rated pairs of the words."""
    couples = ["captain ship", "king queen", "door room", "night moon", "bread cheese", "sea shore", "hand head"]
    (folder / "books").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(9):
        topics = [couples[i].split() for i in rng.integers(0, len(couples), 20)]
        text = " ".join(topic[i] for topic in topics for i in rng.integers(0, 2, 64))
        (folder / "books" / f"{number}.md").write_text(f"# Book {number}\n\n{text}.\n", encoding="utf-8")
    (folder / "pairs.txt").write_text("king queen 9\nship door 3\nnight sea 2\nking zebra 1\n", encoding="utf-8")


def small_series(folder: Path) -> None:
    """Write a CSV of dates and two waves with noise, one of them on a level of its own."""
    rng = np.random.default_rng(0)
    hours = np.arange(400)
    waves = np.stack([np.sin(hours * np.pi / 6), 20 + 3 * np.cos(hours * np.pi / 6)], 1)
    rows = waves + rng.normal(0, 0.1, waves.shape)
    folder.mkdir(parents=True)
    text = "".join(f"hour {hour},{a:.4f},{b:.4f}\n" for hour, (a, b) in zip(hours, rows, strict=True))
    (folder / "series.csv").write_text(f"date,low,high\n{text}", encoding="utf-8")


def small_recordings(folder: Path) -> None:
    """Write 16 takes of a high and a low tone by two speakers, 0.11 to 0.22 s long at 8 kHz."""
    rng = np.random.default_rng(0)
    (folder / "recordings").mkdir(parents=True)
    for word, pitch in (("high", 1100), ("low", 300)):
        for speaker, take in ((speaker, take) for speaker in ("a", "b") for take in range(16)):
            tone = np.sin(np.arange(rng.integers(880, 1800)) / 8000 * 2 * np.pi * pitch * rng.uniform(0.8, 1.2))
            noisy = 8000 * tone + rng.normal(0, 400, len(tone))
            path = folder / "recordings" / f"{word}_{speaker}_{take}.wav"
            path.write_bytes(wav_bytes(noisy.astype(np.int16), 8000))


TOYS: dict[str, Toy] = {
    "audio_generation": Toy(
        write_raw=small_recordings,
        split={"test_takes": 4, "dev_takes": 9},
        model={"width": 16, "skip": 24, "layers": 3},
    ),
    "binary_addition": Toy(
        write_raw=lambda folder: folder.mkdir(parents=True),
        split={"bits": 8, "train": 200, "dev": 40, "test": 40},
        model={"bias": True},
    ),
    "forecasting": Toy(
        write_raw=small_series,
        split={"train": 200, "dev": 80, "test": 80},
        data={"look_back": 24, "horizon": 8, "season": 12},
        model={"width": 16},
    ),
    "translation": Toy(
        write_raw=small_corpus,
        split={"reader": "parallel_text"},
        data=tiny_params({})["recipes"]["tiny"]["data"],
        options={"beam": 2, "max_length": 8},
        model={"dropout": 0.0},
    ),
    "masked_language_model": Toy(
        write_raw=small_books,
        split={"text": ["books"], "dev": {"toy": "pairs.txt"}, "test": {"toy": "pairs.txt"}},
        data={"vocabulary": 40, "every": 3, "shown": ["The captain of the [ship] went ashore."]},
    ),
    "image_classification": Toy(
        write_raw=small_photos,
        split={"reader": "image_folder", "dev_per_class": 20},
        model={"width": 8, "depths": [1, 2]},
    ),
    "word_embedding": Toy(
        write_raw=small_library,
        split={
            "text": ["books"],
            "dev": {"ratings": "ratings.txt"},
            "test": {"ratings": "ratings.txt"},
            "analogies": "analogies.txt",
            "held_out": 0.1,
        },
        data={"piece": 48, "shown": ["va"]},
        model={"width": 32, "window": 3},
    ),
    "sequence_classification": Toy(
        write_raw=small_recordings,
        split={"test_takes": 4, "dev_takes": 9},
        model={"width": 24, "dropout": 0.0},
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks' toy data, prepared once: <task>/raw and <task>/prepared."""
    folder = tmp_path_factory.mktemp("conformance")
    for name, toy in TOYS.items():
        toy.write_raw(folder / name / "raw")
        prepare(folder, name, folder / name / "prepared")
    return folder


def prepare(folder: Path, name: str, out: Path) -> None:
    task = load_task(name)
    task.prepare(folder / name / "raw", out, TOYS[name].split, parse_config(task.Data, TOYS[name].data, "data"))


TRANSFORMER = {"architecture": "transformer", "width": 32, "heads": 2, "ffn": 48}
TRANSFORMER |= {"encoder_layers": 1, "decoder_layers": 1}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "talker": ("audio_generation", {}),
    "adder-sigmoid": ("binary_addition", {"activation": "sigmoid", "init": "he", "hidden": 64}),
    "adder-tanh": ("binary_addition", {"activation": "tanh", "signed": True}),
    "adder-relu": ("binary_addition", {"activation": "relu", "init": "he", "signed": True}),
    **{
        f"forecaster-{name}": ("forecasting", {"architecture": name, "loss": loss, **more})
        for name, loss, more in (
            ("gru", "absolute_error", {"segment": 4}),
            ("lstm", "absolute_error", {"segment": 4}),
            ("rnn", "squared_error", {"segment": 4}),
            ("wavenet", "squared_error", {"layers": 5}),
        )
    },
    "transformer": ("translation", TRANSFORMER),
    "transformer-concat": ("translation", {**TRANSFORMER, "positions": "concat"}),
    "rnn-gru": ("translation", {"architecture": "rnn", "width": 24, "cell": "gru"}),
    "rnn-lstm": ("translation", {"architecture": "rnn", "width": 24, "cell": "lstm"}),
    "masked-lm": ("masked_language_model", {"width": 32, "heads": 2, "layers": 2, "dropout": 0.1}),
    **{
        name: ("image_classification", {"architecture": name, **({"growth": 4} if name == "densenet" else {})})
        for name in ("cnn", "resnet", "mobilenet_v1", "mobilenet_v2", "densenet")
    },
    **{name: ("word_embedding", {"family": name, "sample": 0}) for name in ("skipgram", "cbow")},
    "counts": ("word_embedding", {"family": "counts"}),
    "digits-rnn": ("sequence_classification", {"architecture": "recurrent", "cell": "rnn"}),
    "digits-bigru": ("sequence_classification", {"architecture": "recurrent", "cell": "gru", "bidirectional": True}),
    "digits-wavenet": ("sequence_classification", {"architecture": "wavenet", "layers": 3}),
}


def test_every_task_has_its_toy_data_and_a_model() -> None:
    assert sorted(TOYS) == task_names()
    assert {task for task, _ in MODELS.values()} == set(task_names())


def build(prepared: Path, name: str) -> tuple[Task, TrainedModel, Path]:
    """Return the task, a model of it, untrained unless it has a closed form, and the folder of its prepared data."""
    torch.manual_seed(0)
    task_name, model = MODELS[name]
    task, root = load_task(task_name), prepared / task_name / "prepared"
    config = parse_config(task.Model, {**TOYS[task_name].model, **model}, "model")
    module = task.build_model(config, root)
    if isinstance(module, ClosedForm):
        module.solve(task.dataset(root, "train"), 0)
    return task, TrainedModel(config, module), root


SOUND, SERIES, WORDS = "sequence_classification", "forecasting", "word_embedding"
TRANSLATION, IMAGES = "translation", "image_classification"


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        *[
            (SOUND, {"architecture": "wavenet", **option}, "is of architecture recurrent, but architecture is wavenet")
            for option in ({"cell": "lstm"}, {"bidirectional": True}, {"depth": 2}, {"memory": 9}, {"bands": 20})
        ],
        *[
            (SOUND, {"architecture": "recurrent", key: 8}, "is of architecture wavenet, but architecture is recurrent")
            for key in ("skip", "cycles", "layers", "filters", "stride")
        ],
        (SOUND, {"architecture": "recurrent", "cell": "rnn", "memory": 9}, "is of cells lstm and gru, but cell is rnn"),
        (SERIES, {"architecture": "gru", "width": 8, "layers": 3}, "is of architecture wavenet, but architecture is"),
        (SERIES, {"architecture": "wavenet", "width": 8, "segment": 8}, "is of architecture rnn, lstm and gru, but"),
        (WORDS, {"family": "counts", "negatives": 3}, "is of families skipgram and cbow, but family is counts"),
        *[
            (
                IMAGES,
                {"architecture": "cnn", "width": 8, key: 0.75 if key == "compression" else 8},
                "is of architecture",
            )
            for key in ("growth", "bottleneck", "compression", "expansion")
        ],
        *[
            (TRANSLATION, {"width": 8, "architecture": "rnn", key: 2}, "the Transformer's alone")
            for key in ("heads", "ffn", "encoder_layers", "head_width")
        ],
        (TRANSLATION, {"width": 8, "architecture": "rnn", "positions": "concat"}, "the Transformer's alone"),
        (TRANSLATION, {"width": 8, "architecture": "transformer", "layers": 6}, "the recurrent network's alone"),
        (TRANSLATION, {"width": 8, "architecture": "transformer", "cell": "lstm"}, "the recurrent network's alone"),
        (WORDS, {"family": "counts", "sample": 0}, "is of families skipgram and cbow, but family is counts"),
    ],
)
def test_option_that_a_model_does_not_read_is_refused(name: str, model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{list(model)[-1]}: {message}.*; leave it out") as raised:
        parse_config(load_task(name).Model, model, "model")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", PARAMS.recipes)
def test_config_of_a_saved_model_with_every_key_written_out_is_read_again(name: str) -> None:
    kind = load_task(PARAMS.recipes[name].task).Model
    config = parse_config(kind, PARAMS.recipes[name].model, "model")
    assert parse_config(kind, config.model_dump(), "model.json") == config


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("digits-lstm", {"architecture": "wavenet"}),
        ("digits-lstm", {"cell": "rnn"}),
        ("digits-wavenet", {"architecture": "recurrent", "bands": 20}),
        ("etth1-gru", {"architecture": "wavenet", "layers": 10}),
        ("etth1-wavenet", {"architecture": "gru"}),
        ("words-skipgram", {"family": "counts"}),
    ],
)
def test_student_of_another_kind_begins_without_the_options_of_its_teacher(
    recipe: str, changes: dict[str, Any]
) -> None:
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text("utf-8"))
    raw["recipes"]["words-skipgram"]["model"]["negatives"] = 9
    student = {"recipe": recipe, "from": recipe, "passes": [{"distill": {"logit": {"alpha": 0.5}, "model": changes}}]}
    raw["students"]["other"] = student
    raw["variants"]["other-fp32"] = {"recipe": recipe, "from": "other", "precision": "fp32"}
    check_params(parse_config(Params, raw, ""))


@pytest.mark.parametrize("name", TOYS)
def test_misspelt_key_of_a_split_is_refused_before_anything_is_read(name: str) -> None:
    task, split = load_task(name), TOYS[name].split
    task.check_split(split, "datasets.toy.split")
    with pytest.raises(ConfigError, match=r"datasets\.toy\.split\.trian: unknown key"):
        task.check_split({**split, "trian": 1}, "datasets.toy.split")


@pytest.mark.parametrize("name", TOYS)
def test_prepare_gives_the_same_bytes_twice(prepared: Path, tmp_path: Path, name: str) -> None:
    prepare(prepared, name, tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(prepared / name / "prepared")


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"counts"}))  # it has a closed form
def test_every_parameter_gets_a_gradient_and_one_batch_is_learnt(prepared: Path, name: str) -> None:
    task, model, root = build(prepared, name)
    examples = task.dataset(root, "train")
    batch = examples.collate([examples[i] for i in range(8)])
    optimizer = torch.optim.Adam(model.module.parameters(), 1e-2)
    model.module.train()
    first = None
    for _ in range(100):
        output = task.step(model.module, batch)
        optimizer.zero_grad()
        output.loss.backward()
        first = first or float(output.loss.detach())
        missing = [n for n, p in model.module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not missing
        optimizer.step()
    model.module.eval()
    assert float(task.step(model.module, batch).loss.detach()) < 0.5 * first


def multiplied(file: Path) -> list[np.ndarray]:
    """Return the int8 (in, out) matrices that a dynamic graph's products read; a tied table is stored turned around."""
    found = []
    for graph in all_graphs(onnx.load(file).graph):
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        turned = {
            n.output[0]: stored[n.input[0]].T for n in graph.node if n.op_type == "Transpose" and n.input[0] in stored
        }
        matrices = {**stored, **turned}
        found += [matrices[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"]
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_graph_is_exported_proven_and_loaded_again(
    prepared: Path, tmp_path: Path, name: str, precision: str
) -> None:
    task, model, root = build(prepared, name)
    options = parse_config(task.Options, TOYS[task.name].options, "options")
    # untrained models are near ties everywhere; of a talker one other sample changes all that follow
    agreement = {"fp16": 0.8, "int8": {"talker": 0.0, "masked-lm": 0.3}.get(name, 0.4)}
    loose = {"agreement": agreement[precision], "max_abs_diff": 1e9} if precision != "fp32" else {}
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": precision, "runtime": "cpu"}
    examples = task.dataset(root, "dev")
    tolerance = tolerance_for(precision, loose, "t")
    out = tmp_path / "export"
    out.mkdir()
    export = partial(export_model, task, model, options, examples, root / "assets", tolerance, identity, out)
    if (name, precision) == ("resnet", "int8"):  # but for its last product it is convolutions
        with pytest.raises(ModelpressError, match="give the variant "):
            export()
        return
    manifest = export()
    assert manifest.parity["answers_compared"] >= 100
    answers = load_predictor(out).predict(examples.inputs()[:5])
    if precision == "fp32":
        assert answers == torch_predictor(task, model, options, root / "assets").predict(examples.inputs()[:5])
    if precision == "int8":
        assert set(manifest.quantization["certificates"]) == {"x86-64-vnni", "x86-64-avx2"}
        assert not any(
            len(pairs_at_risk(w.T[None])) for g in manifest.graphs.values() for w in multiplied(out / g.file)
        )
    bytes_a_weight = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}[precision]
    size = sum((out / graph.file).stat().st_size for graph in manifest.graphs.values())
    assert size < bytes_a_weight * model.parameters() * 1.15 + 60_000


@pytest.mark.parametrize("name", MODELS)
def test_every_graph_without_a_loop_is_made_static_int8(prepared: Path, tmp_path: Path, name: str) -> None:
    task, model, root = build(prepared, name)
    options = parse_config(task.Options, TOYS[task.name].options, "options")
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": "int8", "runtime": "cpu"}
    tolerance = tolerance_for("int8", {"agreement": 0.0, "quality_drop": 1.0}, "t")
    dev, train = (task.dataset(root, split) for split in ("dev", "train"))
    export = partial(export_model, task, model, options, dev, root / "assets", tolerance, identity, tmp_path)
    quantize = Quantize(method="static", calibration=Calibration(samples=48))
    if any(isinstance(spec, LoopSpec) for spec in task.graphs(model.module.eval(), options)):
        with pytest.raises(ModelpressError, match="holds a loop"):
            export(quantize, train)
        return
    if not len(train.inputs()):
        with pytest.raises(ModelpressError, match="no inputs to calibrate with"):
            export(quantize, train)
        return
    manifest = export(quantize, train)
    assert len(load_predictor(tmp_path).predict(dev.inputs()[:5])) == 5
    assert set(manifest.quantization["certificates"]) == {"x86-64-vnni", "x86-64-avx2"}
    assert manifest.quantization["certificates"]["x86-64-avx2"]["saturated_sums"] == 0
    assert manifest.quantization["tried"][0]["in_float"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_graph_is_made_weight_only_loops_too(prepared: Path, tmp_path: Path, name: str) -> None:
    task, model, root = build(prepared, name)
    options = parse_config(task.Options, TOYS[task.name].options, "options")
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": "int4", "runtime": "cpu"}
    tolerance = tolerance_for("int4", {"agreement": 0.0}, "t")
    examples, assets = task.dataset(root, "dev"), root / "assets"
    quantize = Quantize(method="weight_only", bits=4)
    manifest = export_model(task, model, options, examples, assets, tolerance, identity, tmp_path, quantize)
    assert len(load_predictor(tmp_path).predict(examples.inputs()[:5])) == 5
    weights = manifest.quantization["weights"]
    assert weights["in_float"] < max(0.1 * weights["all"], 8000)  # biases, norms, what is too small to be worth it
    assert set(manifest.quantization["certificates"]) == {"x86-64-vnni", "x86-64-avx2"}
    size = sum((tmp_path / graph.file).stat().st_size for graph in manifest.graphs.values())
    assert size < 5 / 8 * weights["all"] * 1.15 + 60_000


@pytest.mark.parametrize("name", MODELS)
def test_graph_specs_name_every_tensor(prepared: Path, name: str) -> None:
    task, model, _ = build(prepared, name)
    for spec in task.graphs(model.module.eval(), task.Options()):
        parts = [spec.start, spec.body, spec.finish] if isinstance(spec, LoopSpec) else [spec]
        for part in parts:
            assert isinstance(part, GraphSpec)
            flat = [x for value in part.example for x in (value if isinstance(value, list) else [value])]
            assert len(flat) == len(part.inputs) == len(set(part.inputs))
            assert len(part.outputs) == len(set(part.outputs))
