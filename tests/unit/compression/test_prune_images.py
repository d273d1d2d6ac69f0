"""Channels of image networks: whatever is removed goes everywhere, and what said nothing is not missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.compression.prune import Prune, shrink
from components.core.config import parse_config
from components.core.errors import ConfigError
from components.core.task import TrainedModel
from components.models.multiply_adds import multiply_adds
from components.models.pruning_groups import PruningGroup
from components.tasks.image_classification import TASK, ModelConfig
from tests.unit.compression.image_toy import ARCHITECTURES, Fitted, context, lively, pictures, write_facts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_facts(tmp_path_factory.mktemp("pictures"))


def silence(model: TrainedModel, groups: list[PruningGroup], kept: list[list[int]]) -> None:
    """Set to zero all weights that make the units which are to go; what reads them stays as it is."""
    parameters = dict(model.module.named_parameters())
    for group, rows in zip(groups, kept, strict=True):
        gone = [unit for unit in range(group.units) if unit not in rows]
        for member in group.members:
            if member.axis == 0 and member.parameter in parameters:
                parameters[member.parameter].data[gone] = 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_removing_units_of_zero_weights_leaves_the_outputs_as_they_are(
    root: Path, architecture: str, data: st.DataObject
) -> None:
    depths = data.draw(st.sampled_from([[1], [2, 1], [1, 2], [0, 1, 2]]))
    model = lively(root, architecture=architecture, depths=depths)
    groups = model.module.pruning_groups()
    kept = [sorted(data.draw(st.sets(st.integers(0, g.units - 1), min_size=1))) for g in groups]
    silence(model, groups, kept)
    small = shrink(model, groups, kept, context(root, model, Fitted()))
    with torch.no_grad():
        expected, found = model.module(pictures()), small.module.eval()(pictures())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [g.units for g in small.module.pruning_groups()] == [len(rows) for rows in kept]


def test_student_of_a_pruned_model_has_the_layout_it_is_given(root: Path) -> None:
    pruned = parse_config(ModelConfig, {"architecture": "cnn", "width": 6, "channels": [5, 5, 6, 9, 9, 24, 24]}, "m")
    narrow = parse_config(ModelConfig, pruned.changed({"width": 4}), "m").explicit()
    assert narrow.channels == (4, 4, 4, 8, 8, 16, 16)
    assert parse_config(ModelConfig, pruned.changed({"label_smoothing": 0.1}), "m").channels == pruned.channels
    with pytest.raises(ConfigError, match="channels: 7 numbers"):
        parse_config(ModelConfig, pruned.changed({"width": 4, "channels": [1]}), "m")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_but_a_densenets_stem_belongs_to_a_group(root: Path, architecture: str) -> None:
    model = lively(root, architecture=architecture)
    cut = {member.parameter for group in model.module.pruning_groups() for member in group.members}
    whole = {name for name, p in model.module.named_parameters() if p.dim() == 4} - cut
    assert whole == ({"trunk.stem.conv.weight"} if architecture == "densenet" else set())
    explicit = model.config.explicit()
    for group in model.module.pruning_groups():
        assert {getattr(explicit, group.key)[layer] for layer in group.layers} == {group.units}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pruned_network_has_a_quarter_of_the_work_and_is_built_again_from_its_config(
    root: Path, architecture: str
) -> None:
    dense = {"growth": 16, "bottleneck": 4} if architecture == "densenet" else {}
    model = lively(root, architecture=architecture, width=32, **dense)
    kinds = {group.kind for group in model.module.pruning_groups()}
    fitted = Fitted()
    prune = Prune(remove=dict.fromkeys(kinds, 0.5), criterion="magnitude", scope="layer", train={"epochs": 3})
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    small = prune.apply(model, context(root, model, fitted))
    assert fitted.calls == [{"epochs": 3}]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    work = [multiply_adds(m.module.eval(), pictures(1)) for m in (small, model)]
    assert work[0] < work[1] / (3 if architecture != "mobilenet_v1" else 2.5)
    again = TASK.build_model(parse_config(ModelConfig, small.config.model_dump(exclude_none=True), "model"), root)
    again.load_state_dict(small.module.state_dict())
    assert torch.equal(again.eval()(pictures()), small.module.eval()(pictures()))


def test_rounds_reach_the_fraction_with_a_fit_behind_each(root: Path) -> None:
    model, fitted = lively(root, architecture="cnn", width=16), Fitted()
    prune = Prune(remove={"channels": 0.5}, criterion="taylor", scope="layer", rounds=2, batches=2)
    small = prune.apply(model, context(root, model, fitted))
    assert len(fitted.calls) == 2
    assert [group.units for group in small.module.pruning_groups()] == [8, 8, 16, 16]


def test_units_under_the_threshold_are_removed_and_the_rest_is_retrained(root: Path) -> None:
    model, fitted = lively(root, architecture="cnn", width=16), Fitted()
    groups = model.module.pruning_groups()
    silence(model, groups, [list(range(3, group.units)) for group in groups])
    for group in groups:  # what reads them says nothing either
        for member in group.members:
            if member.axis == 1:
                dict(model.module.named_parameters())[member.parameter].data[:, :3] = 0
    prune = Prune(remove={"channels": 0.01}, criterion="threshold")
    small = prune.apply(model, context(root, model, fitted))
    assert [g.units for g in small.module.pruning_groups()] == [g.units - 3 for g in groups]
    assert len(fitted.calls) == 1
    torch.testing.assert_close(small.module.eval()(pictures()), model.module(pictures()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet", "mobilenet_v2"])
def test_channels_that_would_become_a_residual_are_left_alone(root: Path, architecture: str) -> None:
    changes: dict[str, Any] = {"depths": [1, 1], "channels": [6, 7, 8]}
    groups = lively(root, architecture=architecture, **changes).module.pruning_groups()
    assert [group.layers for group in groups if group.kind == "channels"] == [(2,)]


def test_important_channels_are_kept_by_taylor(root: Path) -> None:
    model = lively(root, architecture="cnn", width=8, depths=[1])
    model.module.head.weight.data[:, ::2] = 0  # what the loss does not hear of
    prune = Prune(remove={"channels": 0.5}, criterion="taylor", scope="layer", batches=2)
    groups = model.module.pruning_groups()
    kept = prune._kept(model, groups, context(root, model, Fitted()))
    assert kept[-1] == [1, 3, 5, 7]
