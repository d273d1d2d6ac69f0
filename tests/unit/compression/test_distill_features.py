"""Feature distillation draws a student's layer to the teacher's; its projection is gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.compression.context import Frozen
from components.compression.distill import Distill, distilling_step
from components.compression.feature import Feature, feature_step, outputs, with_projection
from components.core.errors import ConfigError
from components.tasks.image_classification import TASK
from tests.unit.compression.image_toy import Fitted, batches, context, halves, lively, write_facts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_facts(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("logit", [None, {"temperature": 2.0, "alpha": 0.5}])
def test_student_is_a_plain_model_whose_features_come_nearer(root: Path, logit: dict[str, float] | None) -> None:
    teacher = lively(root, architecture="cnn", width=12)
    blocks = {"model": {"width": 6}, "logit": logit, "feature": {"layer": "trunk", "weight": 10.0}}
    students = [Distill(**blocks).apply(teacher, context(root, teacher, Fitted(steps))) for steps in (0, 60)]
    assert students[1].module.state_dict().keys() == lively(root, architecture="cnn").module.state_dict().keys()
    assert not any(module._forward_hooks for s in (*students, teacher) for module in s.module.modules())
    batch = next(batches(halves()))
    errors = []
    for student in students:  # the best that any projection makes of each student's features
        features = []
        for model in (student, teacher):
            with torch.no_grad(), outputs(model.module.eval(), "trunk") as seen:
                TASK.step(model.module, batch)
            features.append(seen[0].movedim(1, -1).flatten(0, -2))
        left = torch.cat([features[0], torch.ones(len(features[0]), 1)], 1)
        projected = left @ torch.linalg.lstsq(left, features[1]).solution
        errors.append(float((projected - features[1]).square().sum()))
    assert errors[1] < 0.9 * errors[0]


def test_teacher_is_asked_once_a_step(root: Path) -> None:
    teacher, student = lively(root, architecture="cnn", width=12), lively(root, architecture="cnn")
    feature = Feature(layer="trunk")
    asked: list[None] = []
    teacher.module.register_forward_hook(lambda *_: asked.append(None))
    projected = with_projection(student.module, teacher.module, feature, context(root, teacher, Fitted())).train()
    for distance in (None, {"temperature": 1.0}):
        asked.clear()
        inner = distilling_step(TASK, teacher, None if distance is None else Distill(model={}, logit=distance).logit)
        loss = feature_step(inner, TASK, Frozen(teacher.module), feature)(projected, next(batches(halves()))).loss
        loss.backward()
        assert len(asked) == 1
    assert all(p.grad is not None for p in projected.parameters())
    assert all(p.grad is None for p in teacher.module.parameters())


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("trnk", "no such submodule 'trnk', did you mean trunk"),
        ("trunk.stem", "the teacher's"),
        ("unused", "unused gives nothing: it is not called"),
        ("pair", "pair gives several tensors, not one"),
    ],
)
def test_layers_that_do_not_go_together_are_refused(root: Path, layer: str, words: str) -> None:
    teacher, student = lively(root, architecture="cnn", stem_stride=2), lively(root, architecture="cnn")
    for module in (teacher.module, student.module):
        module.unused, module.pair = torch.nn.Identity(), Pair()
        module.trunk.register_forward_hook(lambda _model, _inputs, output, pair=module.pair: pair(output)[0])
    with pytest.raises(ConfigError, match=words):
        with_projection(student.module, teacher.module, Feature(layer=layer), context(root, teacher, Fitted()))


class Pair(torch.nn.Module):
    """Answers as a GRU does: with a tuple."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x
