"""Sparsifying zeroes the smallest weights for good; what that is worth are bytes once compressed, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.compression.passes import parse_passes
from components.compression.sparsify import Sparsify, deflated_bytes
from components.core.errors import ConfigError
from tests.unit.compression.image_toy import Fitted, context, lively, write_facts


def test_no_other_pass_trains_behind_it() -> None:
    step = {"sparsify": {"fraction": 0.5}}
    assert len(parse_passes([{"prune": {"remove": {"channels": 0.5}}}, step, step], "x")) == 3
    with pytest.raises(ConfigError, match="x: sparsify is the last pass"):
        parse_passes([step, {"prune": {"remove": {"channels": 0.5}}}], "x")


def test_smallest_weights_are_zero_after_the_fit_and_the_file_compresses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = lively(write_facts(tmp_path), architecture="resnet", width=12)
    before = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    sparse = Sparsify(fraction=0.75).apply(model, context(tmp_path, model, Fitted(steps=5)))
    for name, parameter in sparse.module.named_parameters():
        if parameter.dim() > 1:
            zero = parameter.detach() == 0
            assert int(zero.sum()) == round(0.75 * parameter.numel())
            assert before[name][zero].abs().max() <= before[name][~zero].abs().min()
            assert not torch.equal(parameter.detach()[~zero], before[name][~zero])  # the rest was trained
        assert torch.equal(before[name], dict(model.module.named_parameters())[name])
    assert sparse.parameters() == model.parameters()
    assert deflated_bytes(sparse.module) < 0.5 * deflated_bytes(model.module)
    assert f"deflated {deflated_bytes(model.module):,} -> {deflated_bytes(sparse.module):,}" in capsys.readouterr().out
