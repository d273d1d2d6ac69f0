"""What every task and every recipe of params.yaml must fulfil; a new task is covered by being there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.core.errors import ConfigError
from components.core.files import sha256_tree
from components.core.params import Params, load_params, parse_config
from components.core.task import GraphSpec, LoopSpec, Task, TrainedModel, load_task, task_names
from components.core.tolerance import tolerance_for
from components.export.export import export_model
from components.export.torch_predictor import torch_predictor
from components.inference import load_predictor
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The translation task's data, prepared once: tasks to come add their own small raw files here."""
    folder = tmp_path_factory.mktemp("conformance")
    small_corpus(folder / "raw")
    task = load_task("translation")
    config = tiny_params({})["recipes"]["tiny"]
    data = parse_config(task.Data, config["data"], "data")
    task.prepare(folder / "raw", folder / "prepared", {"reader": "parallel_text"}, data)
    return folder


MODELS: dict[str, dict[str, Any]] = {
    "transformer": {
        "architecture": "transformer",
        "width": 32,
        "heads": 2,
        "ffn": 48,
        "encoder_layers": 1,
        "decoder_layers": 1,
    },
    "transformer-concat": {
        "architecture": "transformer",
        "width": 32,
        "heads": 2,
        "ffn": 48,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "positions": "concat",
    },
    "rnn-gru": {"architecture": "rnn", "width": 24, "cell": "gru"},
    "rnn-lstm": {"architecture": "rnn", "width": 24, "cell": "lstm"},
}


def build(prepared: Path, name: str) -> tuple[Task, TrainedModel]:
    torch.manual_seed(0)
    task = load_task("translation")
    config = parse_config(task.Model, {**MODELS[name], "dropout": 0.0}, "model")
    return task, TrainedModel(config, task.build_model(config, prepared / "prepared"))


def test_prepare_gives_the_same_bytes_twice(prepared: Path, tmp_path: Path) -> None:
    task = load_task("translation")
    data = parse_config(task.Data, {"tokenizer": "word", "min_frequency": 1}, "data")
    task.prepare(prepared / "raw", tmp_path / "again", {"reader": "parallel_text"}, data)
    assert sha256_tree(tmp_path / "again") == sha256_tree(prepared / "prepared")


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient_and_one_batch_is_learnt(prepared: Path, name: str) -> None:
    task, model = build(prepared, name)
    examples = task.dataset(prepared / "prepared", "train")
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
    assert float(task.step(model.module, batch).loss) < 0.5 * first


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_graph_is_exported_proven_and_loaded_again(
    prepared: Path, tmp_path: Path, name: str, precision: str
) -> None:
    task, model = build(prepared, name)
    root = prepared / "prepared"
    options = parse_config(task.Options, {"beam": 2, "max_length": 8}, "options")
    loose = {"agreement": 0.0, "max_abs_diff": 1e9} if precision != "fp32" else {}
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": precision, "runtime": "cpu"}
    examples = task.dataset(root, "dev")
    tolerance = tolerance_for(precision, loose, "t")
    out = tmp_path / "export"
    out.mkdir()
    manifest = export_model(task, model, options, examples, root / "assets", tolerance, identity, out)
    assert manifest.parity["answers_compared"] >= 100
    answers = load_predictor(out).predict(examples.inputs()[:5])
    if precision == "fp32":
        assert answers == torch_predictor(task, model, options, root / "assets").predict(examples.inputs()[:5])
    bytes_a_weight = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}[precision]
    assert (out / "translate.onnx").stat().st_size < bytes_a_weight * model.parameters() * 1.15 + 60_000


@pytest.mark.parametrize("name", MODELS)
def test_graph_specs_name_every_tensor(prepared: Path, name: str) -> None:
    task, model = build(prepared, name)
    for spec in task.graphs(model.module.eval(), task.Options()):
        parts = [spec.start, spec.body, spec.finish] if isinstance(spec, LoopSpec) else [spec]
        for part in parts:
            assert isinstance(part, GraphSpec)
            flat = [x for value in part.example for x in (value if isinstance(value, list) else [value])]
            assert len(flat) == len(part.inputs) == len(set(part.inputs))
            assert len(part.outputs) == len(set(part.outputs))
