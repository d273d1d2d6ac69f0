"""Structured pruning: whole heads, neurons and channels are removed, so that the network is really smaller.

Each removal is followed by a fine-tuning. Criteria: weight magnitude (Li et al. 2017); the first-order Taylor estimate
of the loss that a removal causes (Molchanov et al. 2019); or a threshold that the norm of a unit's weights must reach.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from components.compression.choice import check_kinds, choose, reach_threshold, round_up
from components.compression.context import Context
from components.compression.distill import Logit, distilling_step, kept_by, with_answers
from components.core.config import Config, parse_config
from components.core.errors import ConfigError
from components.core.task import TrainedModel
from components.export.fake_quant import plain
from components.models.pruning_groups import Member, PruningGroup


class Prune(Config):
    """How much of each kind of unit to remove, how to rank them, and the fine-tuning that follows.

    Units compete across the layers of their kind ("global"), or each layer gives the same share ("layer").
    """

    remove: dict[str, float] = Field(
        min_length=1, description="kind of unit -> fraction to remove; threshold: norm to reach"
    )
    criterion: Literal["magnitude", "taylor", "threshold"] = "taylor"
    scope: Literal["global", "layer"] = "global"
    max_ratio: float = Field(1.0, gt=0, le=1, description="largest fraction of one layer's units that may go")
    rounds: int = Field(1, gt=0, description="removals, each with its fine-tuning, that reach the fraction together")
    multiple_of: int = Field(1, gt=0, description="units each layer keeps; kernels compute channels in blocks")
    batches: int = Field(30, gt=0, description="batches behind a Taylor estimate")
    sequence: dict[str, Any] | None = Field(None, description="the task's Options with which the teacher answers")
    logit: Logit | None = None
    train: dict[str, Any] = {}

    def idle(self) -> Mapping[str, str]:
        reason = f"criterion {self.criterion} reads it not"
        unread = {"magnitude": ("batches",), "threshold": ("batches", "scope", "max_ratio")}.get(self.criterion, ())
        idle = {"max_ratio": "scope layer takes the same fraction of each"} if self.scope == "layer" else {}
        return {**idle, **dict.fromkeys(unread, reason)}

    @model_validator(mode="after")
    def _layers_have_as_many(self) -> Self:
        for kind, fraction in self.remove.items():
            if self.criterion != "threshold" and fraction > self.max_ratio:
                raise ValueError(f"max_ratio: {self.max_ratio:g} of each layer are not {fraction:g} of all {kind}")
        return self

    def apply(self, model: TrainedModel, context: Context) -> TrainedModel:
        """Return a smaller copy of `model`, fine-tuned to the recipe's teacher.

        Raises:
            ConfigError: a kind of unit that the model does not have, or an impossible fraction.
        """
        if not hasattr(model.module, "pruning_groups"):
            raise ConfigError([f"prune: a model of {context.task.name} has no units that can be removed"])
        data = with_answers(context.teacher, context, self.sequence)
        kept = kept_by(context.teacher, context, data, self.logit)
        step = distilling_step(context.task, context.teacher, self.logit, kept)
        model = TrainedModel(model.config, plain(model.module))  # other channels have other ranges
        units = [group.units for group in model.module.pruning_groups()]  # type: ignore[operator]
        for number in range(1, self.rounds + 1):
            groups: list[PruningGroup] = model.module.pruning_groups()  # type: ignore[operator]
            pruned = shrink(model, groups, self._kept(model, groups, context, units, number / self.rounds), context)
            print(f"pruned: {_counts(groups)} -> {_counts(pruned.module.pruning_groups())}", flush=True)  # type: ignore[operator]
            context.fit(pruned.module, step, data, self.train)
            model = pruned
        return model

    def _kept(
        self,
        model: TrainedModel,
        groups: Sequence[PruningGroup],
        context: Context,
        units: Sequence[int] | None = None,
        way: float = 1.0,
    ) -> list[list[int]]:
        """Return the units of each group that stay. units: how many there were at first; way: part of it to be gone."""
        check_kinds(groups, self.remove, most=float("inf") if self.criterion == "threshold" else 1.0)
        if self.criterion == "taylor":
            importance = taylor(model, groups, context, self.batches)
        else:
            importance = squared_norms(model, groups)
        if self.criterion == "threshold":
            kept = reach_threshold(groups, importance, self.remove)
        else:
            # of the first model's: what one round's rounding up takes back, the next one removes
            gone = {kind: 1 - (1 - fraction) ** way for kind, fraction in self.remove.items()}
            kept = choose(groups, importance, gone, self.scope, units, self.max_ratio)
        return round_up(kept, importance, self.multiple_of)


def squared_norms(model: TrainedModel, groups: Sequence[PruningGroup]) -> list[Tensor]:
    """Return the sum of squares of all weights of each unit, (units,) a group."""
    squares = {name: p.detach() ** 2 for name, p in model.module.named_parameters()}
    return [_per_unit(group, squares) for group in groups]


def taylor(model: TrainedModel, groups: Sequence[PruningGroup], context: Context, batches: int) -> list[Tensor]:
    """Return the squared first-order change of the loss when a unit's weights become zero, summed over batches."""
    module = copy.deepcopy(model.module).eval()
    totals = [torch.zeros(group.units) for group in groups]
    for _, batch in zip(range(batches), context.batches(context.train), strict=False):
        module.zero_grad()
        context.task.step(module, batch).loss.backward()
        slopes = {n: p.detach() * p.grad for n, p in module.named_parameters() if p.grad is not None}
        for total, group in zip(totals, groups, strict=True):
            total += _per_unit(group, slopes) ** 2
    return totals


def _per_unit(group: PruningGroup, values: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of a value over all weights of each unit, (units,); buffers have none."""
    total = torch.zeros(group.units)
    for member in group.members:
        if member.parameter in values:
            part = values[member.parameter].movedim(member.axis, 0)[member.start : member.stop]
            total += part.reshape(member.repeats, group.units, -1).sum((0, 2))
    return total


def shrink(
    model: TrainedModel, groups: Sequence[PruningGroup], kept: Sequence[Sequence[int]], context: Context
) -> TrainedModel:
    """Return a new, smaller model that holds the kept units' weights."""
    config = model.config.explicit()
    counts = {group.key: list(getattr(config, group.key)) for group in groups}
    weights = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    stays: dict[tuple[str, int], Tensor] = {}  # by tensor and axis: groups may share one
    for group, rows in zip(groups, kept, strict=True):
        for layer in group.layers:
            counts[group.key][layer] = len(rows)
        for member in group.members:
            length = weights[member.parameter].shape[member.axis]
            mask = stays.setdefault((member.parameter, member.axis), torch.ones(length, dtype=torch.bool))
            _drop(mask[member.start : member.stop], member, group.units, rows)
    for (name, axis), mask in stays.items():
        weights[name] = weights[name].index_select(axis, mask.nonzero()[:, 0])
    smaller = parse_config(context.task.Model, {**config.model_dump(), **counts}, "prune")
    module = context.task.build_model(smaller, context.root)
    module.load_state_dict(weights)
    return TrainedModel(smaller, module)


def _drop(mask: Tensor, member: Member, units: int, rows: Sequence[int]) -> None:
    """Set to false, in place, what belongs to other units than `rows`."""
    gone = torch.ones(units, dtype=torch.bool)
    gone[list(rows)] = False
    mask.view(member.repeats, units, -1)[:, gone] = False


def _counts(groups: Sequence[PruningGroup]) -> str:
    """Return the units of each kind, group by group, for people."""
    units: dict[str, list[int]] = {}
    for group in groups:
        units.setdefault(group.kind, []).append(group.units)
    return ", ".join(f"{kind} {counts}" for kind, counts in units.items())
