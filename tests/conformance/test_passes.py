"""What every pass must do to a model of every task: give another that its files rebuild, and leave its input alone.

A new task is covered by being in test_tasks.py, a new pass by its line in CLAIMS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.compression.context import Context
from components.compression.kept_logits import KeptLogits, kept_logits
from components.compression.passes import PASSES, parse_passes
from components.compression.quantize_aware import weights_in_blocks
from components.core.config import parse_config
from components.core.errors import ConfigError, ModelpressError
from components.core.params import Quantize
from components.core.task import ClosedForm, LoopSpec, Task, TaskDataset, TrainedModel
from components.core.tolerance import tolerance_for
from components.export.export import export_model
from components.export.fake_quant import Simulated
from components.training.weights import load_model, save_model
from tests.conformance.test_tasks import MODELS, TOYS, build, prepared

__all__ = ["prepared"]  # the fixture


def zeros(model: TrainedModel) -> float:
    """Return the share of weights that are zero, of those in matrices."""
    matrices = [p.detach() for p in model.module.parameters() if p.dim() > 1]
    return sum(int((m == 0).sum()) for m in matrices) / sum(m.numel() for m in matrices)


def kinds(model: TrainedModel) -> set[str]:
    """Return the kinds of units that a model lets go."""
    groups = model.module.pruning_groups() if hasattr(model.module, "pruning_groups") else []
    return {group.kind for group in groups}


def rounds(model: TrainedModel) -> bool:
    """Return whether a model rounds, every activation within a range that it has seen."""
    module = model.module
    return isinstance(module, Simulated) and all(low < high for low, high in module.fake_quant.as_dict().values())


def refusal(task: Task, model: TrainedModel, kind: str) -> str:
    """Return what a pass says to a model that it can do nothing for, or nothing."""
    if isinstance(model.module, ClosedForm):
        return "is solved, not trained"
    if task.name == "word_embedding" and kind == "distill":
        return "no distribution over classes"
    if kind != "quantize_aware":
        return ""
    if any(isinstance(spec, LoopSpec) for spec in task.graphs(model.module.eval(), task.Options())):
        return "answers by a loop, which has no static int8"
    layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return "" if any(isinstance(m, layers) for m in model.module.modules()) else "no convolution and no product"


KEPT = {"translation", "binary_addition", "image_classification"}  # whose toys show the same in every epoch
Claim = Callable[[TrainedModel, TrainedModel], bool]  # of a model and what a pass made of it
CLAIMS: dict[str, tuple[Callable[[TrainedModel], dict[str, Any]], Claim]] = {
    "distill": (
        lambda model: {"model": {}, "start": "teacher", "logit": {"temperature": 2.0}},
        lambda model, made: made.parameters() == model.parameters(),
    ),
    "prune": (
        lambda model: {"remove": dict.fromkeys(kinds(model), 0.5), "batches": 1, "rounds": 2, "logit": {}},
        lambda model, made: made.parameters() < model.parameters(),
    ),
    "quantize_aware": (
        lambda model: {"batches": 2, "logit": {}},
        lambda model, made: rounds(made) and not rounds(model) and made.parameters() == model.parameters(),
    ),
    "sparsify": (
        lambda model: {"fraction": 0.75},
        lambda model, made: zeros(made) == pytest.approx(0.75, abs=0.01) and zeros(model) < 0.1,
    ),
}


def test_every_pass_has_a_claim() -> None:
    assert CLAIMS.keys() == PASSES.keys()


def a_few_steps(batches: Callable[[TaskDataset], Iterator[Any]]) -> Callable[..., None]:
    def fit(module: nn.Module, step: Callable[..., Any], data: TaskDataset, _changes: Mapping[str, Any]) -> None:
        optimizer = torch.optim.Adam(module.parameters(), 1e-3)
        module.train()
        for _, batch in zip(range(2), batches(data), strict=False):
            optimizer.zero_grad()
            step(module, batch).loss.backward()
            optimizer.step()
        module.eval()

    return fit


def batches(data: TaskDataset) -> Iterator[Any]:
    while True:
        yield data.collate([data[i] for i in range(8)])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", PASSES)
def test_pass_keeps_its_claim_and_its_input(prepared: Path, tmp_path: Path, name: str, kind: str) -> None:
    task, model, root = build(prepared, name)
    if kind == "prune" and not kinds(model):
        pytest.skip("none of its units can be removed")
    parameters, claim = CLAIMS[kind]
    (a_pass,) = parse_passes([{kind: parameters(model)}], "students.toy.passes")
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    train = task.dataset(root, "train")
    teacher = TrainedModel(model.config, task.build_model(model.config, root))
    context = Context(task, root, train, teacher, a_few_steps(batches), batches, lambda *_: [], lambda *_: None)
    if words := refusal(task, model, kind):
        with pytest.raises(ModelpressError, match=words):
            a_pass.apply(model, context)
        return
    made = a_pass.apply(model, context)
    assert claim(model, made)
    assert all(torch.equal(before[key], value) for key, value in model.module.state_dict().items())
    save_model(made, tmp_path)
    rebuilt = load_model(task, tmp_path, root).module
    batch = next(batches(train))
    losses = [task.step(module.eval(), batch).loss for module in (made.module, rebuilt)]
    assert torch.isfinite(losses[0])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_of_a_teacher_is_what_it_says_of_the_same_examples_in_other_batches(
    prepared: Path, tmp_path: Path, name: str
) -> None:
    task, teacher, root = build(prepared, name)
    train = task.dataset(root, "train")

    def drawn(*numbers: int) -> Any:
        return train.collate([train[i] for i in numbers])

    def keep() -> KeptLogits:
        batches = [drawn(0, 1, 2, 3), drawn(4, 5)]
        return kept_logits(task.step, module, lambda: batches, 10_000, 1.0, lambda digest: tmp_path / digest)

    module = teacher.module.eval()
    if isinstance(module, ClosedForm):
        return
    if task.name not in KEPT:
        with pytest.raises(ConfigError, match=r"logit\.keep: this task"):
            keep()
        assert not list(tmp_path.iterdir())
        return
    kept = keep()
    batch = drawn(5, 0, 3)
    with torch.no_grad():
        output = task.step(module, batch)
    counted = output.counted()
    classes, looked_up = kept.of(batch, counted)
    said = output.logits[counted].log_softmax(-1)
    assert classes.shape == said.shape
    torch.testing.assert_close(looked_up, said.gather(1, classes), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_int4_graph_answers_as_the_model_that_trained_to_round(prepared: Path, tmp_path: Path, name: str) -> None:
    task, model, root = build(prepared, name)
    (a_pass,) = parse_passes([{"quantize_aware": {"bits": 4, "logit": {}}}], "students.toy.passes")
    train, dev = (task.dataset(root, split) for split in ("train", "dev"))
    context = Context(task, root, train, model, a_few_steps(batches), batches, lambda *_: [], lambda *_: None)
    if isinstance(model.module, ClosedForm) or not weights_in_blocks(model.module):
        with pytest.raises(ModelpressError, match=r"is solved, not trained|has 1024 weights or more"):
            a_pass.apply(model, context)
        return
    made = a_pass.apply(model, context)
    assert not any(
        torch.equal(made.module.get_parameter(n), model.module.get_parameter(n))
        for n in weights_in_blocks(model.module)
    )
    identity = {"recipe": "r", "variant": "v", "parent": "r", "precision": "int4", "runtime": "cpu"}
    options = parse_config(task.Options, TOYS[task.name].options, "options")
    tolerance = tolerance_for("int4", {"agreement": 0.97}, "t")
    quantize = Quantize(method="weight_only", bits=4)
    export_model(task, made, options, dev, root / "assets", tolerance, identity, tmp_path, quantize)
